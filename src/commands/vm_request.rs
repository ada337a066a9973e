//! The flags that describe a new VM, shared by `create` and `run`.

use clap::Args;

use super::machine_request::MachineRequest;
use crate::lifecycle::Request;
use crate::model::{ProcessId, Span, VmName};

#[derive(Debug, Args)]
#[command(next_help_heading = "The VM")]
pub struct VmRequest {
    #[command(flatten)]
    machine: MachineRequest,

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
}

impl VmRequest {
    /// What `lifecycle` is asked for.
    pub fn into_request(self, keep: bool, owner: Option<ProcessId>) -> Request {
        Request { ttl: self.ttl, name: self.name, keep, owner, ..self.machine.into_request() }
    }
}
