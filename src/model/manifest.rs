//! What a VM is and which processes run it, as the registry and the VM's own directory record it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::id::{VmId, VmName};
use super::label::VmLabels;
use super::network::{NetworkProcess, NetworkSettings};
use super::platform::{Accelerator, BackendKind, Isolation};
use super::process::ProcessId;
use super::profile_name::ProfileName;

/// What a VM is, as its user wants it. It is also written to `vms/<id>/manifest.json`, from which a lost
/// registry can be rebuilt. Only `extend`, `rename`, `offer` and `take` of `VmRecord` change it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VmManifest {
    pub vm_id: VmId,
    pub name: Option<VmName>,
    pub profile: ProfileName,
    pub vcpu_count: u32,
    pub mem_mib: u32,
    /// MiB of its own disk; `None` if it has none.
    pub disk_mib: Option<u32>,
    /// From its creation.
    pub ttl_seconds: u64,
    /// Unix seconds.
    pub created_at: f64,
    pub backend: BackendKind,
    pub accelerator: Accelerator,
    pub keep: bool,
    /// The image's digest; empty if the backend boots no image.
    pub image: String,
    /// Whether the guest has hardware virtualization.
    #[serde(default)]
    pub nested: bool,
    /// Whether the VMM runs in Firecracker's jailer.
    #[serde(default)]
    pub jailed: bool,
    /// The host user of the VMM; `None` for the user of the command.
    pub vmm_uid: Option<u32>,
    #[serde(default, skip_serializing_if = "NetworkSettings::is_none")]
    pub network: NetworkSettings,
    /// The host user of the network helper; `None` for the user of the command.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network_uid: Option<u32>,
    /// The `run` command that the VM belongs to. When that is gone, the VM is a leftover.
    pub owner: Option<ProcessId>,
    /// It is for the pool and not for a user: its owner fills the pool, and without an owner it waits there.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub in_pool: bool,
    pub metadata: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "VmLabels::is_empty")]
    pub labels: VmLabels,
}

impl VmManifest {
    pub fn isolation(&self) -> Isolation {
        self.accelerator.isolation()
    }

    /// Whether its VMM could be in a jail and is not, because the user wanted that.
    pub fn lacks_jail(&self) -> bool {
        self.backend == BackendKind::Firecracker && self.vmm_uid.is_some() && !self.jailed
    }

    /// Whether its processes leave it to a command to end them when everything is asked to stop. Those of the pool do not,
    /// because their VM may wait for a command still.
    pub fn is_stopped_by_owner(&self) -> bool {
        self.owner.is_some() && !self.in_pool
    }

    /// Its name, or its id if it has none.
    pub fn display_name(&self) -> &str {
        self.name.as_ref().map_or(self.vm_id.as_str(), VmName::as_str)
    }

    /// The guest's hostname.
    pub fn hostname(&self) -> String {
        self.name.as_ref().map_or_else(|| format!("mayfly-{}", self.vm_id), ToString::to_string)
    }
}

#[cfg(test)]
impl VmManifest {
    /// That of a VM on mock.
    pub fn sample() -> VmManifest {
        VmManifest {
            vm_id: VmId::from_random([1; 16]),
            name: None,
            profile: "debian-base".parse().unwrap(),
            vcpu_count: 1,
            mem_mib: 256,
            disk_mib: None,
            ttl_seconds: 60,
            created_at: 0.0,
            backend: BackendKind::Mock,
            accelerator: Accelerator::None,
            keep: false,
            image: String::new(),
            nested: false,
            jailed: false,
            vmm_uid: None,
            network: NetworkSettings::default(),
            network_uid: None,
            owner: None,
            in_pool: false,
            metadata: BTreeMap::new(),
            labels: VmLabels::default(),
        }
    }
}

/// What a command needs to reach a running VM.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VmInstance {
    pub process: ProcessId,
    /// The template it started from, if it did not boot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub template: Option<String>,
    /// The network helper; `None` before it is started, and if the VM has no network.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network: Option<NetworkProcess>,
}

impl VmInstance {
    /// The VMM, and the network helper if there is one.
    pub fn processes(&self) -> impl Iterator<Item = &ProcessId> {
        let helper = self.network.as_ref().map(|network| &network.process);
        std::iter::once(&self.process).chain(helper)
    }

    /// A VMM without a network.
    pub fn new(process: ProcessId) -> VmInstance {
        VmInstance { process, template: None, network: None }
    }
}
