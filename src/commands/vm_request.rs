//! The flags that describe a new VM, shared by `create` and `run`.

use clap::Args;
use clap_complete::ArgValueCompleter;

use super::candidates;
use crate::lifecycle::Request;
use crate::model::{Isolation, MemMib, ProcessId, Span, VmName};

#[derive(Debug, Args)]
#[command(next_help_heading = "The VM")]
pub struct VmRequest {
    /// Make a VM of PROFILE; 'mayfly profiles' lists them
    #[arg(
        short, long, value_name = "PROFILE", env = "MAYFLY_PROFILE",
        default_value = "debian-base", add = ArgValueCompleter::new(candidates::profiles)
    )]
    profile: String,

    /// Give it N virtual CPUs
    #[arg(long, value_name = "N")]
    vcpus: Option<u32>,

    /// Give it SIZE of memory, such as 512M or 2G
    ///
    /// A bare number is MiB.
    #[arg(long, value_name = "SIZE")]
    mem: Option<MemMib>,

    /// Let it live for DURATION at most, such as 90s or 1h
    ///
    /// A bare number is seconds. When the time is up, the VM ends by itself, and the next 'reap',
    /// 'create' or 'run' deletes it.
    #[arg(long, value_name = "DURATION")]
    ttl: Option<Span>,

    /// Call it NAME, which its hostname is then too
    ///
    /// Letters, digits and hyphens; wherever a VM is asked for, its name will do.
    #[arg(long, value_name = "NAME")]
    name: Option<VmName>,

    /// Fail unless the VM has at least this isolation
    #[arg(long, value_name = "ISOLATION", env = "MAYFLY_REQUIRE", value_enum)]
    require: Option<Isolation>,

    /// As root, run Firecracker without its jailer
    ///
    /// It then has no root directory, control groups or device files of its own, but still a user of
    /// its own, an empty network and its seccomp filters. 'status --json' shows it in 'metadata'.
    #[arg(
        long, env = "MAYFLY_NO_JAILER", value_parser = clap::builder::FalseyValueParser::new()
    )]
    no_jailer: bool,
}

impl VmRequest {
    /// What `lifecycle` is asked for.
    pub fn into_request(self, keep: bool, owner: Option<ProcessId>) -> Request {
        Request {
            profile: self.profile,
            vcpu_count: self.vcpus,
            mem: self.mem,
            ttl: self.ttl,
            name: self.name,
            keep,
            require: self.require,
            no_jailer: self.no_jailer,
            owner,
        }
    }
}
