//! The flags for a VM's network.

use clap::Args;
use clap_complete::ArgValueCompleter;

use crate::commands::completions::candidates;
use crate::lifecycle::NetworkRequest;
use crate::model::{AllowRule, NetworkMode, PublishedPort};

/// Set for each flag: set for all, it would be that of the flags after them, too.
const HEADING: &str = "The network";

#[derive(Debug, Args)]
pub struct NetworkFlags {
    /// Let the VM reach the internet: egress, or none
    ///
    /// 'none' also turns off what the profile allows and publishes.
    #[arg(long, value_name = "MODE", help_heading = HEADING, env = "MAYFLY_NET", value_enum, hide_possible_values = true)]
    net: Option<NetworkMode>,

    /// Let the VM reach RULE, such as example.org
    ///
    /// RULE is HOST, '*.HOST' for all names below it, an address, a network such as 192.168.1.0/24, or 'host' for
    /// this host's loopback, and may end in :PORT. Repeatable.
    #[arg(
        long, value_name = "RULE", help_heading = HEADING,
        add = ArgValueCompleter::new(candidates::allow_rules)
    )]
    allow: Vec<AllowRule>,

    /// Let this host reach a port of the VM, as in 8080:80
    ///
    /// PORTS is HOST:GUEST or ADDRESS:HOST:GUEST, and may end in /udp. ADDRESS is 127.0.0.1 unless given. If HOST is
    /// 0, a free port is taken, which 'mayfly port' shows. Repeatable.
    #[arg(long, value_name = "PORTS", help_heading = HEADING)]
    publish: Vec<PublishedPort>,
}

impl NetworkFlags {
    pub fn into_request(self) -> NetworkRequest {
        NetworkRequest { mode: self.net, allow: self.allow, publish: self.publish }
    }
}
