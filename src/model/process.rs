//! Which process is meant, for longer than a pid lasts.

use serde::{Deserialize, Serialize};

use super::time::BootId;

/// A process on this host: a pid alone is reused, a pid with its start time and boot is not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProcessId {
    pub pid: i32,
    /// Clock ticks from boot to the process's start: field 22 of `/proc/<pid>/stat`.
    pub start_ticks: u64,
    pub boot_id: BootId,
}

/// What became of a recorded process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProcessLiveness {
    Alive,
    /// Gone, or a zombie, or the pid belongs to another process by now.
    Dead,
    /// It ran before the host's last boot.
    OtherBoot,
}
