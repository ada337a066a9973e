//! Questions to resolvers that wait for answers.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use simple_dns::TYPE;

use super::key::FlowKey;
use crate::model::DnsName;
use crate::network::addresses::{
    GATEWAY_V4, GATEWAY_V6, GUEST_V4, GUEST_V6, guest_for, is_gateway,
};
use crate::network::dns_message::{DnsQuery, OwnAnswer};
use crate::network::exchange::DnsExchange;

/// Who asked a question.
#[derive(Debug, Clone, Copy)]
pub(super) enum DnsClient {
    Datagram(FlowKey),
    /// A connection to the gateway.
    Stream(u64),
}

/// What waits for the addresses of a name.
#[derive(Debug)]
pub(super) enum NameWaiter {
    Query(DnsClient, DnsQuery),
    Tcp(u64),
    /// A packet with a datagram.
    Packet(Vec<u8>),
    /// A datagram that the guest sends again.
    Nothing,
}

#[derive(Debug)]
pub(super) enum DnsTask {
    Relay { client: DnsClient, query: DnsQuery },
    Lookup(NameLookup),
}

/// Finding the addresses of a name.
#[derive(Debug)]
pub(super) struct NameLookup {
    pub name: DnsName,
    /// The name that is asked for, and what is asked for if it does not exist.
    pub asked: DnsName,
    pub others: Vec<DnsName>,
    pub kind: TYPE,
}

/// Questions that wait for answers.
pub(super) struct DnsDesk {
    pub servers: Vec<SocketAddr>,
    pub search: Vec<DnsName>,
    hostname: Option<DnsName>,
    pub tasks: HashMap<u64, (DnsTask, u16, DnsExchange)>,
    pub waiting: HashMap<DnsName, Vec<NameWaiter>>,
}

impl DnsDesk {
    pub fn new(
        servers: Vec<SocketAddr>,
        search: Vec<DnsName>,
        hostname: Option<DnsName>,
    ) -> DnsDesk {
        DnsDesk { servers, search, hostname, tasks: HashMap::new(), waiting: HashMap::new() }
    }

    /// Names that need no resolver.
    pub fn local(&self, name: &DnsName) -> Option<OwnAnswer> {
        let is_localhost = name.as_str() == "localhost" || name.as_str().ends_with(".localhost");
        let (v4, v6) = match name.as_str() {
            _ if is_localhost => (Ipv4Addr::LOCALHOST, Ipv6Addr::LOCALHOST),
            _ if self.hostname.as_ref() == Some(name) => (GUEST_V4, GUEST_V6),
            // As rules call it.
            "host" => (GATEWAY_V4, GATEWAY_V6),
            _ => return None,
        };
        Some(OwnAnswer::Addresses(Some(v4), Some(v6)))
    }

    /// The name of an address that needs no resolver.
    pub fn local_pointer(&self, address: IpAddr) -> Option<DnsName> {
        if address.is_loopback() {
            return "localhost".parse().ok();
        }
        if is_gateway(address) {
            return "host".parse().ok();
        }
        self.hostname.clone().filter(|_| address == guest_for(address))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn local_names_need_no_resolver() {
        let desk = DnsDesk::new(Vec::new(), Vec::new(), Some("box".parse().unwrap()));
        let local = |text: &str| match desk.local(&text.parse().unwrap()) {
            Some(OwnAnswer::Addresses(Some(v4), Some(_))) => Some(IpAddr::V4(v4)),
            _ => None,
        };
        assert_eq!(local("localhost"), Some(Ipv4Addr::LOCALHOST.into()));
        assert_eq!(local("a.localhost"), Some(Ipv4Addr::LOCALHOST.into()));
        assert_eq!(local("box"), Some(GUEST_V4.into()));
        assert_eq!(local("host"), Some(GATEWAY_V4.into()));
        assert_eq!(local("example.org"), None);
    }
}
