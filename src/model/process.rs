//! The identity of a process, which outlasts its pid.

use serde::{Deserialize, Serialize};

use super::time::BootId;

/// A process. Unlike a pid, a pid with its start time, boot and place is never reused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProcessId {
    pub pid: i32,
    /// Clock ticks from the boot to the process's start: field 22 of `/proc/<pid>/stat`.
    pub start_ticks: u64,
    pub boot_id: BootId,
    /// Where the pid is valid. Records of registries before schema 3 have none, and are valid where they are read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub place: Option<ProcessPlace>,
}

/// A host, and one of its pid namespaces: a pid means nothing anywhere else.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProcessPlace {
    /// The host's name.
    pub host: String,
    /// `/etc/machine-id`, if the host has one: two hosts may have the same name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub machine_id: Option<String>,
    /// The inode of the pid namespace, which is unique within one boot.
    pub pid_namespace: u64,
}

impl ProcessId {
    /// Whether nothing can be known of it at `here`, in the boot `boot`.
    ///
    /// The same boot is the same kernel, even if the host was renamed meanwhile; then the pid namespace
    /// decides. Another boot is an earlier one of this host, or belongs to another host.
    pub fn is_elsewhere(&self, here: &ProcessPlace, boot: &BootId) -> bool {
        self.place.as_ref().is_some_and(|place| {
            if self.boot_id == *boot {
                place.pid_namespace != here.pid_namespace
            } else {
                self.is_on_another_host(here, boot)
            }
        })
    }

    /// Whether it belongs to another host, with which `here` shares neither processes nor, maybe, locks.
    pub fn is_on_another_host(&self, here: &ProcessPlace, boot: &BootId) -> bool {
        self.place.as_ref().is_some_and(|place| {
            let is_same_host = place.host == here.host && place.machine_id == here.machine_id;
            self.boot_id != *boot && !is_same_host
        })
    }
}

/// What became of a recorded process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProcessLiveness {
    Alive,
    /// Gone or a zombie, or the pid belongs to another process.
    Dead,
    /// It ran before the host's last boot.
    OtherBoot,
    /// It belongs to another host or pid namespace, where it may be alive.
    Elsewhere,
}
