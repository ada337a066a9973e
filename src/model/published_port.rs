//! Ports of the guest that the host listens on, as users write them: `--publish`.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::refusal::Refusal;

const FORM: &str = "write [ADDRESS:]HOSTPORT:GUESTPORT, and /udp after it for UDP";

/// A protocol that has ports.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PortProtocol {
    #[default]
    Tcp,
    Udp,
}

/// A port of the host that leads to one of the guest, written `[ADDRESS:]HOSTPORT:GUESTPORT[/udp]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PublishedPort {
    #[serde(rename = "proto")]
    pub protocol: PortProtocol,
    pub address: IpAddr,
    /// 0 lets the kernel choose one.
    pub host_port: u16,
    pub guest_port: u16,
}

impl FromStr for PublishedPort {
    type Err = Refusal;

    fn from_str(text: &str) -> Result<PublishedPort, Refusal> {
        let refuse = |why: String| Refusal::usage(format!("cannot publish {text:?}: {why}"));
        let (ports, protocol) = match text.split_once('/') {
            None | Some((_, "tcp")) => {
                (text.strip_suffix("/tcp").unwrap_or(text), PortProtocol::Tcp)
            }
            Some((ports, "udp")) => (ports, PortProtocol::Udp),
            Some((_, other)) => {
                return Err(refuse(format!("{other:?} is not tcp or udp")).hint(FORM));
            }
        };
        let number = |text: &str| {
            let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
            let port: Option<u16> = text.parse().ok().filter(|_| digits);
            port.ok_or_else(|| refuse(format!("{text:?} is not a port")).hint(FORM))
        };
        let Some((before, guest_port)) = ports.rsplit_once(':') else {
            let port = number(ports)?;
            let refusal = refuse("it has only one port".into());
            return Err(
                refusal.hint(format!("write {port}:{port} for the same port on both sides"))
            );
        };
        let (address, host_port) = match before.rsplit_once(':') {
            Some((address, host_port)) => (parse_address(address).map_err(refuse)?, host_port),
            None => (IpAddr::V4(Ipv4Addr::LOCALHOST), before),
        };
        let (host_port, guest_port) = (number(host_port)?, number(guest_port)?);
        if guest_port == 0 {
            return Err(refuse("the guest's port cannot be 0".into())
                .hint("only the host's port can be 0: mayfly then chooses one"));
        }
        Ok(PublishedPort { protocol, address, host_port, guest_port })
    }
}

fn parse_address(text: &str) -> Result<IpAddr, String> {
    let inner = text.strip_prefix('[').and_then(|text| text.strip_suffix(']'));
    match inner {
        Some(inner) => {
            inner.parse().map(IpAddr::V6).map_err(|_| format!("{inner:?} is no IPv6 address"))
        }
        None => text.parse().map(IpAddr::V4).map_err(|_| match text {
            "localhost" => "the address must be a number, such as 127.0.0.1".to_owned(),
            _ => format!("{text:?} is not an address of this host; IPv6 needs brackets"),
        }),
    }
}

impl fmt::Display for PublishedPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", SocketAddr::new(self.address, self.host_port), self.guest_port)?;
        f.write_str(if self.protocol == PortProtocol::Udp { "/udp" } else { "" })
    }
}

/// A port of the guest, written `PORT[/udp]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GuestPort {
    pub protocol: PortProtocol,
    pub number: u16,
}

impl GuestPort {
    /// The one that a published port leads to.
    pub fn of(port: &PublishedPort) -> GuestPort {
        GuestPort { protocol: port.protocol, number: port.guest_port }
    }
}

impl FromStr for GuestPort {
    type Err = Refusal;

    fn from_str(text: &str) -> Result<GuestPort, Refusal> {
        let refuse = || {
            Refusal::usage(format!("{text:?} is not a port of the guest"))
                .hint("write a number from 1 to 65535, and /udp after it for UDP")
        };
        let (number, protocol) = match text.split_once('/') {
            None => (text, PortProtocol::Tcp),
            Some((number, "tcp")) => (number, PortProtocol::Tcp),
            Some((number, "udp")) => (number, PortProtocol::Udp),
            Some(_) => return Err(refuse()),
        };
        let digits = number.bytes().all(|byte| byte.is_ascii_digit());
        let number = number.parse().ok().filter(|&number: &u16| digits && number > 0);
        Ok(GuestPort { protocol, number: number.ok_or_else(refuse)? })
    }
}

impl fmt::Display for GuestPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let protocol = if self.protocol == PortProtocol::Udp { "udp" } else { "tcp" };
        write!(f, "{}/{protocol}", self.number)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn every_form_is_read() {
        for (text, full) in [
            ("8080:80", "127.0.0.1:8080:80"),
            ("0:80", "127.0.0.1:0:80"),
            ("0.0.0.0:8080:80", "0.0.0.0:8080:80"),
            ("[::1]:8080:80/tcp", "[::1]:8080:80"),
            ("5353:53/udp", "127.0.0.1:5353:53/udp"),
        ] {
            assert_eq!(text.parse::<PublishedPort>().unwrap().to_string(), full);
        }
        let json = serde_json::to_value("0:53/udp".parse::<PublishedPort>().unwrap()).unwrap();
        let expected = r#"{"proto":"udp","address":"127.0.0.1","host_port":0,"guest_port":53}"#;
        assert_eq!(json, serde_json::from_str::<serde_json::Value>(expected).unwrap());
    }

    #[test]
    fn what_is_no_port_is_refused_with_the_reason() {
        for (text, why) in [
            ("8080", "only one port"),
            ("8080:0", "cannot be 0"),
            ("8080:80/sctp", "not tcp or udp"),
            ("localhost:80:80", "must be a number"),
            ("::1:80:80", "needs brackets"),
            ("70000:80", "is not a port"),
            ("a:80", "is not a port"),
            ("80:+80", "is not a port"),
            ("", "is not a port"),
        ] {
            let refusal = text.parse::<PublishedPort>().unwrap_err();
            assert!(refusal.message.contains(why), "{text:?}: {}", refusal.message);
        }
    }

    #[test]
    fn ports_of_the_guest_are_read_as_docker_writes_them() {
        for (text, full) in [("80", "80/tcp"), ("80/tcp", "80/tcp"), ("53/udp", "53/udp")] {
            assert_eq!(text.parse::<GuestPort>().unwrap().to_string(), full);
        }
        for text in ["", "0", "65536", "+80", "80/sctp", "80/", "/tcp", "a", "80:80"] {
            assert!(text.parse::<GuestPort>().is_err(), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_refused_or_reads_back_as_the_same_port(text in "[0-9.:/\\[\\]udptc]{0,24}") {
            if let Ok(port) = text.parse::<PublishedPort>() {
                prop_assert_eq!(port.to_string().parse::<PublishedPort>().unwrap(), port);
            }
        }
    }
}
