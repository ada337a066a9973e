//! The identity of a process, which outlasts its pid.

use serde::{Deserialize, Serialize};

use super::time::BootId;

/// A process on this host. Unlike a pid, a pid with its start time and boot is never reused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProcessId {
    pub pid: i32,
    /// Clock ticks from the boot to the process's start: field 22 of `/proc/<pid>/stat`.
    pub start_ticks: u64,
    pub boot_id: BootId,
}

/// What became of a recorded process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProcessLiveness {
    Alive,
    /// Gone or a zombie, or the pid belongs to another process.
    Dead,
    /// It ran before the host's last boot.
    OtherBoot,
}
