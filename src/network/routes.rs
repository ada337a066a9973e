//! This host's addresses and networks, as the kernel knows them at the moment.

use std::fs::File;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

use super::policy::HostView;
use super::sockets;

/// How long the kernel's routes are trusted.
const FRESH: Duration = Duration::from_secs(2);

/// Shorter prefixes without a gateway are no neighbourhood, but a line to a provider.
const LEAST_PREFIX_V4: u32 = 8;
const LEAST_PREFIX_V6: u32 = 16;

/// The kernel's routes, whose files stay open because a confined process cannot open them.
#[derive(Debug)]
pub struct HostRoutes {
    v4: Option<File>,
    v6: Option<File>,
    networks: Vec<(IpAddr, u32)>,
    read_at: Option<Instant>,
}

impl HostRoutes {
    pub fn open() -> HostRoutes {
        let open = |path: &str| File::open(path).ok();
        HostRoutes {
            v4: open("/proc/self/net/route"),
            // Missing where IPv6 is disabled.
            v6: open("/proc/self/net/ipv6_route"),
            networks: Vec::new(),
            read_at: None,
        }
    }

    /// Whether this host has a route to everywhere.
    pub fn has_default(&self) -> bool {
        self.read().iter().any(|route| route.prefix == 0)
    }

    fn read(&self) -> Vec<HostRoute> {
        let v4 = self.v4.as_ref().map(read_whole).unwrap_or_default();
        let v6 = self.v6.as_ref().map(read_whole).unwrap_or_default();
        v4.lines().filter_map(route_v4).chain(v6.lines().filter_map(route_v6)).collect()
    }

    fn refresh(&mut self) {
        if self.read_at.is_some_and(|at| at.elapsed() < FRESH) {
            return;
        }
        let near = self.read().into_iter().filter(HostRoute::is_neighbourhood);
        self.networks = near.map(|route| (route.network, route.prefix)).collect();
        self.read_at = Some(Instant::now());
    }
}

/// A route of the kernel's that leaves this host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct HostRoute {
    network: IpAddr,
    prefix: u32,
    has_gateway: bool,
}

impl HostRoute {
    fn is_neighbourhood(&self) -> bool {
        let least = if self.network.is_ipv4() { LEAST_PREFIX_V4 } else { LEAST_PREFIX_V6 };
        !self.has_gateway && self.prefix >= least
    }
}

impl HostView for HostRoutes {
    fn is_own(&self, address: IpAddr) -> bool {
        // A packet to an address of this host would come from the same address.
        sockets::source_of_packets_to(address) == Some(address)
    }

    fn is_next_door(&mut self, address: IpAddr) -> bool {
        if self.v4.is_none() {
            // It is not known.
            return true;
        }
        self.refresh();
        self.networks.iter().any(|&(network, prefix)| has_prefix(address, network, prefix))
    }
}

fn has_prefix(address: IpAddr, network: IpAddr, prefix: u32) -> bool {
    match (address, network) {
        (IpAddr::V4(a), IpAddr::V4(n)) => (u32::from(a) ^ u32::from(n)).leading_zeros() >= prefix,
        (IpAddr::V6(a), IpAddr::V6(n)) => (u128::from(a) ^ u128::from(n)).leading_zeros() >= prefix,
        _ => false,
    }
}

fn read_whole(file: &File) -> String {
    let mut bytes = Vec::new();
    let mut piece = vec![0; 16 << 10];
    while let Ok(count @ 1..) = file.read_at(&mut piece, bytes.len() as u64) {
        bytes.extend_from_slice(&piece[..count]);
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Reads a line of `/proc/net/route`.
fn route_v4(line: &str) -> Option<HostRoute> {
    let words: Vec<&str> = line.split_ascii_whitespace().collect();
    let [device, network, gateway, _, _, _, _, mask, ..] = words[..] else { return None };
    // In the byte order of the machine.
    let number = |word: &str| u32::from_str_radix(word, 16).ok().map(u32::swap_bytes);
    let network = Ipv4Addr::from(number(network)?).into();
    let (prefix, has_gateway) = (number(mask)?.leading_ones(), number(gateway)? != 0);
    (device != "lo").then_some(HostRoute { network, prefix, has_gateway })
}

/// Reads a line of `/proc/net/ipv6_route`. Every host has a default route through `lo`, which refuses.
fn route_v6(line: &str) -> Option<HostRoute> {
    let words: Vec<&str> = line.split_ascii_whitespace().collect();
    let [network, prefix, _, _, gateway, _, _, _, _, device] = words[..] else { return None };
    let number = |word: &str| u128::from_str_radix(word, 16).ok();
    let network = Ipv6Addr::from(number(network)?).into();
    let (prefix, has_gateway) = (u32::from_str_radix(prefix, 16).ok()?, number(gateway)? != 0);
    (device != "lo").then_some(HostRoute { network, prefix, has_gateway })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbourhoods_and_default_routes_are_found() {
        let title =
            "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT";
        let default = "eth0\t00000000\t0100A8C0\t0003\t0\t0\t0\t00000000\t0\t0\t0";
        let local = "eth0\t0000A8C0\t00000000\t0001\t0\t0\t0\t0000FFFF\t0\t0\t0";
        let line_to_provider = "ppp0\t00000000\t00000000\t0001\t0\t0\t0\t00000000\t0\t0\t0";
        assert_eq!(route_v4(title), None);
        assert_eq!(route_v4(""), None);
        let [default, line_to_provider, local] =
            [default, line_to_provider, local].map(|line| route_v4(line).unwrap());
        assert_eq!([default, line_to_provider, local].map(|route| route.prefix), [0, 0, 16]);
        let near = [default, line_to_provider, local].map(|route| route.is_neighbourhood());
        assert_eq!(near, [false, false, true]);
        assert_eq!(local.network, "192.168.0.0".parse::<IpAddr>().unwrap());
        let six = "20010db8000000000000000000000000 20 00000000000000000000000000000000 00 \
                   00000000000000000000000000000000 00000100 00000001 00000000 00000001 eth0";
        let network = "2001:db8::".parse().unwrap();
        assert_eq!(route_v6(six), Some(HostRoute { network, prefix: 32, has_gateway: false }));
        assert!(route_v6(six).unwrap().is_neighbourhood());
        assert_eq!(route_v6(&six.replace("eth0", "lo")), None);
        assert!(has_prefix("192.168.9.9".parse().unwrap(), "192.168.0.0".parse().unwrap(), 16));
        assert!(!has_prefix("192.169.9.9".parse().unwrap(), "192.168.0.0".parse().unwrap(), 16));
    }

    #[test]
    fn this_host_knows_its_own_addresses() {
        let routes = HostRoutes::open();
        assert!(routes.is_own("127.0.0.1".parse().unwrap()));
    }
}
