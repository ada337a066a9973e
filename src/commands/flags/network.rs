//! The flags for a VM's network.

use clap::Args;

use crate::lifecycle::NetworkRequest;
use crate::model::{AllowRule, NetworkMode, PublishedPort};

#[derive(Debug, Args)]
#[command(next_help_heading = "The network")]
pub struct NetworkFlags {
    /// Let the VM reach the internet, or nothing but what --allow names
    ///
    /// A VM never reaches this host, its networks or a cloud's metadata service unless --allow names them.
    #[arg(long, value_name = "MODE", env = "MAYFLY_NET", value_enum)]
    net: Option<NetworkMode>,

    /// Let the VM reach RULE, such as deb.debian.org or 192.168.1.7:5432
    ///
    /// RULE is HOST, '*.HOST' for all names below it, an address, a network such as 192.168.1.0/24, or 'host'
    /// for this host's loopback, each with or without :PORT. Without --net, nothing else is reached. Can be
    /// given several times.
    #[arg(long, value_name = "RULE")]
    allow: Vec<AllowRule>,

    /// Let this host reach the VM's port GUEST at its own port HOST
    ///
    /// PORTS is [ADDRESS:]HOST:GUEST, and /udp after it for UDP. The address is 127.0.0.1 unless another is
    /// given. If HOST is 0, a free port is taken, which 'mayfly port' shows. Can be given several times.
    #[arg(long, value_name = "PORTS")]
    publish: Vec<PublishedPort>,
}

impl NetworkFlags {
    pub fn into_request(self) -> NetworkRequest {
        NetworkRequest { mode: self.net, allow: self.allow, publish: self.publish }
    }
}
