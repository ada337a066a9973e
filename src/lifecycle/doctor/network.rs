//! Checks of what VMs with a network need: a resolver and a route.

use std::fs;

use crate::model::{CheckVerdict, HostCheck};
use crate::network::resolv_conf::{RESOLV_CONF, ResolverConfig};
use crate::network::routes::HostRoutes;

/// Warnings about a host whose VMs reach little, whatever they may reach.
pub fn checks() -> Vec<HostCheck> {
    vec![
        resolver(fs::read_to_string(RESOLV_CONF).ok().as_deref()),
        route(HostRoutes::open().has_default()),
    ]
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_without_a_resolver_is_warned() {
        assert_eq!(resolver(Some("nameserver 192.0.2.1\n")).verdict, CheckVerdict::Ok);
        assert_eq!(resolver(Some("# empty\n")).verdict, CheckVerdict::Warning);
        assert_eq!(resolver(None).verdict, CheckVerdict::Warning);
    }
}
