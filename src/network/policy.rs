//! What a guest may reach.

use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};

use super::special::{SpecialRange, is_v4_in_disguise, special_range};
use crate::model::{AllowRule, AllowTarget, DnsName, NetworkMode};

/// What the policy asks about this host.
pub trait HostView {
    /// Whether the host has this address itself.
    fn is_own(&self, address: IpAddr) -> bool;
    /// Whether the host reaches this address without a gateway.
    fn is_next_door(&mut self, address: IpAddr) -> bool;
}

/// Why something was denied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DenyReason {
    /// No rule names it.
    NotAllowed,
    /// The address is in a range that only an address rule permits.
    Special(SpecialRange),
    /// It is an address of this host.
    OwnAddress,
    /// It is an address of this host's network.
    NextDoor,
    /// A name that a rule allows has only addresses that the policy denies.
    NameOfDenied,
}

/// The rules of one VM.
#[derive(Debug)]
pub struct NetworkPolicy<H> {
    mode: NetworkMode,
    rules: Vec<AllowRule>,
    host: H,
}

impl<H: HostView> NetworkPolicy<H> {
    pub fn new(mode: NetworkMode, rules: Vec<AllowRule>, host: H) -> NetworkPolicy<H> {
        NetworkPolicy { mode, rules, host }
    }

    pub fn mode(&self) -> NetworkMode {
        self.mode
    }

    /// Judges a connection to an address that the guest chose.
    ///
    /// # Errors
    /// Why it is denied.
    pub fn to_address(&mut self, to: SocketAddr) -> Result<(), DenyReason> {
        if self.has_address_rule(to) {
            return Ok(());
        }
        self.internet(to.ip(), self.mode == NetworkMode::Egress)
    }

    /// Judges one address of a name that [`NetworkPolicy::to_name`] permits.
    ///
    /// # Errors
    /// Why it is denied.
    pub fn to_address_of_name(&mut self, to: SocketAddr) -> Result<(), DenyReason> {
        if self.has_address_rule(to) { Ok(()) } else { self.internet(to.ip(), true) }
    }

    /// Judges a connection to a name.
    ///
    /// # Errors
    /// Why it is denied.
    pub fn to_name(&self, name: &DnsName, port: u16) -> Result<(), DenyReason> {
        let permits = |rule: &AllowRule| rule.has_port(port) && rule.names(name);
        if self.rules.iter().any(permits) { Ok(()) } else { Err(DenyReason::NotAllowed) }
    }

    /// Whether a rule is for this name, on some port.
    pub fn knows_name(&self, name: &DnsName) -> bool {
        self.rules.iter().any(|rule| rule.names(name))
    }

    /// Judges a connection to this port of the host's loopback addresses.
    ///
    /// # Errors
    /// Why it is denied.
    pub fn to_host(&self, port: u16) -> Result<(), DenyReason> {
        let permits = |rule: &AllowRule| rule.has_port(port) && rule.target == AllowTarget::Host;
        if self.rules.iter().any(permits) { Ok(()) } else { Err(DenyReason::NotAllowed) }
    }

    /// The names that rules give in full.
    pub fn exact_names(&self) -> impl Iterator<Item = &DnsName> {
        self.rules.iter().filter_map(|rule| match &rule.target {
            AllowTarget::Name(name) => Some(name),
            _ => None,
        })
    }

    fn has_address_rule(&self, to: SocketAddr) -> bool {
        !is_v4_in_disguise(to.ip())
            && self.rules.iter().any(|rule| {
                let AllowTarget::Range(range) = &rule.target else { return false };
                rule.has_port(to.port()) && range.contains(to.ip())
            })
    }

    /// Judges an address without a rule for it.
    fn internet(&mut self, address: IpAddr, permitted: bool) -> Result<(), DenyReason> {
        if let Some(range) = special_range(address) {
            return Err(DenyReason::Special(range));
        }
        if !permitted {
            return Err(DenyReason::NotAllowed);
        }
        if self.host.is_own(address) {
            return Err(DenyReason::OwnAddress);
        }
        if self.host.is_next_door(address) {
            return Err(DenyReason::NextDoor);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A host at 8.8.4.4 whose network is 8.8.4.0/24.
    struct AnyHost;

    impl HostView for AnyHost {
        fn is_own(&self, address: IpAddr) -> bool {
            address == IpAddr::from([8, 8, 4, 4])
        }

        fn is_next_door(&mut self, address: IpAddr) -> bool {
            matches!(address, IpAddr::V4(address) if address.octets()[..3] == [8, 8, 4])
        }
    }

    fn policy(mode: NetworkMode, rules: &[&str]) -> NetworkPolicy<AnyHost> {
        let rules = rules.iter().map(|rule| rule.parse().unwrap()).collect();
        NetworkPolicy::new(mode, rules, AnyHost)
    }

    fn at(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[test]
    fn egress_is_the_internet_without_this_host_and_its_network() {
        let mut egress = policy(NetworkMode::Egress, &[]);
        assert_eq!(egress.to_address(at("8.8.8.8:53")), Ok(()));
        assert_eq!(egress.to_address(at("[2606:4700::1111]:53")), Ok(()));
        for (to, why) in [
            ("8.8.4.4:80", DenyReason::OwnAddress),
            ("8.8.4.5:80", DenyReason::NextDoor),
            ("127.0.0.1:80", DenyReason::Special(SpecialRange::Loopback)),
            ("169.254.169.254:80", DenyReason::Special(SpecialRange::LinkLocal)),
            ("[::ffff:8.8.8.8]:80", DenyReason::Special(SpecialRange::EncodedV4)),
        ] {
            assert_eq!(egress.to_address(at(to)), Err(why), "{to}");
        }
    }

    #[test]
    fn without_egress_only_what_rules_name_is_reached() {
        let mut none = policy(NetworkMode::None, &["10.1.0.0/16:22", "8.8.4.5", "example.org:443"]);
        assert_eq!(none.to_address(at("10.1.2.3:22")), Ok(()));
        assert_eq!(none.to_address(at("8.8.4.5:1")), Ok(()));
        assert_eq!(none.to_address(at("8.8.8.8:443")), Err(DenyReason::NotAllowed));
        let private = Err(DenyReason::Special(SpecialRange::Private));
        assert_eq!(none.to_address(at("10.1.2.3:23")), private);
        assert_eq!(none.to_address(at("10.2.0.1:22")), private);
    }

    #[test]
    fn a_name_opens_its_port_and_neither_special_addresses_nor_names_below() {
        let mut list = policy(NetworkMode::None, &["example.org:443", "*.example.net", "10.0.0.7"]);
        let name = |text: &str| text.parse::<DnsName>().unwrap();
        assert_eq!(list.to_name(&name("example.org"), 443), Ok(()));
        assert_eq!(list.to_name(&name("example.org"), 80), Err(DenyReason::NotAllowed));
        assert!(list.to_name(&name("a.example.org"), 443).is_err());
        assert!(list.to_name(&name("a.b.example.net"), 1).is_ok());
        assert!(list.to_name(&name("example.net"), 1).is_err());
        assert!(list.knows_name(&name("example.org")) && !list.knows_name(&name("example.net")));
        assert_eq!(list.to_address_of_name(at("1.1.1.1:443")), Ok(()));
        assert_eq!(list.to_address_of_name(at("10.0.0.7:443")), Ok(()));
        for to in ["10.0.0.8:443", "127.0.0.1:443", "8.8.4.4:443", "8.8.4.5:443"] {
            assert!(list.to_address_of_name(at(to)).is_err(), "{to}");
        }
    }

    #[test]
    fn a_rule_for_ipv6_does_not_permit_ipv4_in_it() {
        let mut all = policy(NetworkMode::None, &["0::/16", "host:80"]);
        assert_eq!(all.to_address(at("[::1]:80")), Ok(()));
        for to in ["[::ffff:127.0.0.1]:80", "[::127.0.0.1]:80"] {
            assert!(all.to_address(at(to)).is_err(), "{to}");
        }
        assert!(all.to_host(80).is_ok() && all.to_host(81).is_err());
        assert!(policy(NetworkMode::Egress, &[]).to_host(80).is_err());
    }
}
