//! Checks of what VMs with a network need: a resolver and a route.

use std::fs;

use crate::model::{CheckVerdict, HostCheck};
use crate::network::resolv_conf::{RESOLV_CONF, ResolverConfig};

/// The routes of IPv4 and IPv6, and the words of a line that begin a default route.
const ROUTES: [(&str, usize); 2] = [("/proc/self/net/route", 1), ("/proc/self/net/ipv6_route", 0)];

/// Warnings about a host whose VMs reach little, whatever they may reach.
pub fn checks() -> Vec<HostCheck> {
    vec![resolver(fs::read_to_string(RESOLV_CONF).ok().as_deref()), route(has_default_route())]
}

fn resolver(config: Option<&str>) -> HostCheck {
    let names_one =
        |text: &&str| text.lines().any(|line| line.trim_start().starts_with("nameserver"));
    let Some(text) = config.filter(names_one) else {
        return HostCheck::lacks(
            "resolver",
            CheckVerdict::Warning,
            format!(
                "{RESOLV_CONF} names no resolver, so VMs with a network look up names at 127.0.0.1"
            ),
            format!("add a line such as 'nameserver ADDRESS' to {RESOLV_CONF}"),
        );
    };
    let servers = ResolverConfig::parse(text).servers;
    let servers: Vec<String> = servers.iter().map(|server| server.ip().to_string()).collect();
    HostCheck::ok("resolver", servers.join(", "))
}

fn route(exists: bool) -> HostCheck {
    if exists {
        return HostCheck::ok("route", "this host has a route to other networks");
    }
    HostCheck::lacks(
        "route",
        CheckVerdict::Warning,
        "this host has no default route, so VMs reach no more than its own networks",
        "connect this host to a network: 'ip route' shows its routes",
    )
}

fn has_default_route() -> bool {
    ROUTES.iter().any(|(path, column)| {
        let text = fs::read_to_string(path).unwrap_or_default();
        text.lines().any(|line| is_default(line, *column))
    })
}

/// Whether a line is a route to everywhere that leaves this host. `column` has the destination.
fn is_default(line: &str, column: usize) -> bool {
    let words: Vec<&str> = line.split_whitespace().collect();
    let is_zero = |word: &&str| word.bytes().all(|byte| byte == b'0');
    let [first, .., last] = words[..] else { return false };
    // IPv4 has the mask in the eighth column, IPv6 the length of the prefix in the second.
    let prefix = if column == 0 { words.get(1) } else { words.get(7) };
    words.get(column).is_some_and(is_zero)
        && prefix.is_some_and(is_zero)
        && first != "lo"
        && last != "lo"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn default_routes_are_told_from_others() {
        let v4 = "eth0\t00000000\t010011AC\t0003\t0\t0\t0\t00000000\t0\t0\t0";
        assert!(is_default(v4, 1));
        assert!(!is_default("eth0\t000011AC\t00000000\t0001\t0\t0\t0\t0000FFFF\t0\t0\t0", 1));
        assert!(!is_default("Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask", 1));
        let zeros = "0".repeat(32);
        let v6 = |device| {
            format!("{zeros} 00 {zeros} 00 {zeros} ffffffff 00000001 00000000 00200200 {device}")
        };
        assert!(is_default(&v6("eth0"), 0));
        // Every host has one that refuses.
        assert!(!is_default(&v6("lo"), 0));
        assert!(!is_default("", 0));
    }

    #[test]
    fn a_host_without_a_resolver_is_warned() {
        assert_eq!(resolver(Some("nameserver 192.0.2.1\n")).verdict, CheckVerdict::Ok);
        assert_eq!(resolver(Some("# empty\n")).verdict, CheckVerdict::Warning);
        assert_eq!(resolver(None).verdict, CheckVerdict::Warning);
    }
}
