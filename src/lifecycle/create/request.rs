//! What a user asks for when a VM is created.

use crate::lifecycle::guest::CopySize;
use crate::lifecycle::network::NetworkRequest;
use crate::model::{Isolation, MemMib, ProcessId, TimeSpan, VmLabels, VmName};

/// What a user asked for; `None` means the profile's value.
#[derive(Debug, Clone, Default)]
pub struct CreateRequest {
    pub profile: String,
    pub vcpu_count: Option<u32>,
    pub mem: Option<MemMib>,
    /// The size of its own disk; by default the image's.
    pub disk: Option<MemMib>,
    /// What will be copied into it.
    pub copied: CopySize,
    pub ttl: Option<TimeSpan>,
    /// How long to wait for a place among the active VMs.
    pub wait_slot: Option<TimeSpan>,
    /// The least time that its user needs it for, whatever `ttl` and the profile say.
    pub needed: Option<TimeSpan>,
    pub name: Option<VmName>,
    pub labels: VmLabels,
    pub keep: Option<bool>,
    pub require: Option<Isolation>,
    /// Start Firecracker without its jailer even as root.
    pub no_jailer: bool,
    pub network: NetworkRequest,
    /// The process that the VM is deleted with, unless it is kept.
    pub owner: Option<ProcessId>,
    pub pool: PoolUse,
}

/// What a new VM has to do with the pool.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum PoolUse {
    #[default]
    Nothing,
    /// A VM that waits in the pool is as good.
    Take,
    /// It is for the pool.
    Fill,
}
