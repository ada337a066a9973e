//! The resolvers that this host uses.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use crate::model::DnsName;

/// The file that names the host's resolvers.
pub const RESOLV_CONF: &str = "/etc/resolv.conf";

const PORT: u16 = 53;
/// As many as the C library uses.
const MOST_SERVERS: usize = 3;
const MOST_DOMAINS: usize = 6;

/// What `/etc/resolv.conf` says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResolverConfig {
    pub servers: Vec<SocketAddr>,
    pub search: Vec<DnsName>,
}

impl ResolverConfig {
    /// Reads the text of the file as the C library does. Without a server, this host is one.
    pub fn parse(text: &str) -> ResolverConfig {
        let (mut servers, mut search): (Vec<IpAddr>, _) = (Vec::new(), Vec::new());
        for line in text.lines() {
            let mut words = line.split_ascii_whitespace();
            match words.next() {
                // Addresses with the name of an interface are left out: they are on its network only.
                Some("nameserver") => {
                    servers.extend(words.next().and_then(|it| it.parse::<IpAddr>().ok()))
                }
                // The last one counts.
                Some("search" | "domain") => {
                    search = words.filter_map(|it| it.parse().ok()).take(MOST_DOMAINS).collect();
                }
                _ => {}
            }
        }
        if servers.is_empty() {
            servers.push(IpAddr::V4(Ipv4Addr::LOCALHOST));
        }
        servers.truncate(MOST_SERVERS);
        let servers = servers.into_iter().map(|address| SocketAddr::new(address, PORT)).collect();
        ResolverConfig { servers, search }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_and_domains_are_found() {
        let text = "# a comment\nsearch old.example\nnameserver 192.0.2.1\nnameserver fe80::1%eth0\n\
                    nameserver\n  nameserver 2001:db8::1 \nsearch Corp.example . lab.example\n";
        let config = ResolverConfig::parse(text);
        let servers: Vec<String> = config.servers.iter().map(SocketAddr::to_string).collect();
        assert_eq!(servers, ["192.0.2.1:53", "[2001:db8::1]:53"]);
        let search: Vec<&str> = config.search.iter().map(DnsName::as_str).collect();
        assert_eq!(search, ["corp.example", "lab.example"]);
        let none = ResolverConfig::parse("options ndots:1\n");
        assert_eq!(none.servers, ["127.0.0.1:53".parse().unwrap()]);
    }
}
