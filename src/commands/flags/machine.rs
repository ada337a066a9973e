//! The flags for the kind of a VM, shared by `create`, `run` and `template build`.

use clap::Args;
use clap_complete::ArgValueCompleter;

use super::network::NetworkFlags;
use crate::commands::completions::candidates;
use crate::lifecycle::CreateRequest;
use crate::model::{Isolation, MemMib};

#[derive(Debug, Args)]
#[command(next_help_heading = "The VM")]
pub struct MachineFlags {
    /// Use PROFILE
    ///
    /// 'mayfly profiles' lists all.
    #[arg(
        short, long, value_name = "PROFILE", env = "MAYFLY_PROFILE",
        default_value = "debian-base", add = ArgValueCompleter::new(candidates::profiles)
    )]
    profile: String,

    /// Give the VM N virtual CPUs
    #[arg(long, value_name = "N", env = "MAYFLY_VCPUS", add = ArgValueCompleter::new(candidates::vcpus))]
    vcpus: Option<u32>,

    /// Give the VM SIZE of memory, such as 512M or 2G
    ///
    /// A bare number is MiB.
    #[arg(long, value_name = "SIZE", env = "MAYFLY_MEM", add = ArgValueCompleter::new(candidates::memory))]
    mem: Option<MemMib>,

    /// Give the VM a disk of SIZE, such as 4G
    ///
    /// A bare number is MiB. The default is the size in the profile's image. The disk takes only the space
    /// that its files need. A size of its own makes a template of its own.
    #[arg(long, value_name = "SIZE", env = "MAYFLY_DISK", add = ArgValueCompleter::new(candidates::memory))]
    disk: Option<MemMib>,

    /// Fail unless the VM has at least this isolation
    #[arg(
        long,
        value_name = "ISOLATION",
        env = "MAYFLY_REQUIRE",
        value_enum,
        hide_short_help = true
    )]
    require: Option<Isolation>,

    /// As root, run Firecracker without its jailer
    ///
    /// It then has no root directory, control groups or device files of its own.
    #[arg(long, env = "MAYFLY_NO_JAILER", hide_short_help = true)]
    no_jailer: bool,

    #[command(flatten)]
    network: NetworkFlags,
}

impl MachineFlags {
    /// A request for a VM of this kind, without further properties.
    pub fn into_request(self) -> CreateRequest {
        CreateRequest {
            profile: self.profile,
            vcpu_count: self.vcpus,
            mem: self.mem,
            disk: self.disk,
            require: self.require,
            no_jailer: self.no_jailer,
            network: self.network.into_request(),
            ..CreateRequest::default()
        }
    }
}
