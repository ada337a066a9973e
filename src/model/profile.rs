//! Profiles: named kinds of VM, and the limits that hold for all of them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::platform::Isolation;
use super::refusal::{Kind, Refusal};

/// One complete profile, after all layers were merged.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Profile {
    pub name: String,
    pub description: String,
    /// What its image is made of.
    pub recipe: Recipe,
    pub vcpu_count: u32,
    /// MiB of memory.
    pub mem_mib: u32,
    pub ttl_seconds: u64,
    /// Keep a VM of this profile after `exec`.
    pub keep: bool,
    /// Refuse to create a VM with less isolation than this.
    pub require: Isolation,
    /// Give the VM hardware virtualization of its own: a `/dev/kvm` that works.
    pub nested: bool,
}

/// How an image is made. Two equal recipes make interchangeable images.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recipe {
    /// The Debian suite, such as `bookworm`.
    pub suite: String,
    /// Where packages come from; `None` is mmdebstrap's own default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mirror: Option<String>,
    /// The package that stands for the kernel, such as `linux-image-cloud-amd64`. Images that were
    /// built before a profile could say so have the one that was built in then.
    #[serde(default = "first_kernel")]
    pub kernel: String,
    /// Packages beyond the essential ones and the kernel.
    pub packages: Vec<String>,
    /// Size of the read-only root file system in MiB, as the guest sees it; the file is sparse.
    pub root_mib: u32,
    /// Size of each VM's own writable disk in MiB; the file is sparse.
    pub disk_mib: u32,
}

/// Never to be changed: an image whose description names no kernel has this one, and one that differs
/// from its recipe is built anew.
fn first_kernel() -> String {
    "linux-image-cloud-amd64".into()
}

/// The bounds a request must respect.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Limits {
    /// How many VMs may exist at once in one state directory.
    pub max_active_vms: u32,
    pub vcpu_count: Bounds,
    pub mem_mib: Bounds,
    pub ttl_seconds: Bounds,
    /// The host users that root's VMMs run as, one each.
    pub vmm_uid: Bounds,
    /// How long a template may lie unused before `reap` deletes it.
    pub template_unused_seconds: u64,
    /// How much one copy may bring out of a VM, in MiB.
    pub copy_out_mib: u64,
    /// How many files and directories.
    pub copy_out_files: u64,
    /// How much of the disk it goes to must stay free, in MiB.
    pub copy_out_free_mib: u64,
}

/// An inclusive range.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bounds {
    pub min: u64,
    pub max: u64,
}

impl Bounds {
    pub fn contains(self, value: u64) -> bool {
        (self.min..=self.max).contains(&value)
    }

    /// Refuses a value of `field` that is outside; `given` is what a user would change.
    pub fn check(self, field: &str, given: &str, value: u64) -> Result<(), Refusal> {
        if self.contains(value) {
            return Ok(());
        }
        let Bounds { min, max } = self;
        let message = format!("{field} must be between {min} and {max}, not {value}");
        let hint = format!("change {given}, or [limits] in a profiles.toml of yours");
        Err(Refusal::new(Kind::Usage, message).hint(hint))
    }
}

/// Everything the profile files say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Profiles {
    pub limits: Limits,
    pub profiles: BTreeMap<String, Profile>,
}
