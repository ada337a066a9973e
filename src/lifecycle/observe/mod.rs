//! Looking at VMs without changing them: what they are, what they print, and when that changes.

mod activity;
mod denials;
mod disk_use;
mod inspect;
mod logs;
mod published;
mod status;
mod wait;

pub use activity::{VmWatcher, watch_registry};
pub use denials::{DenialReport, NetworkLogLine, NetworkLogParser};
pub use disk_use::{DiskGroup, DiskItem, DiskKind, disk_use};
pub use inspect::{VmInspection, inspect};
pub use logs::{LogFollower, LogKind, read_log};
pub use published::published_ports;
pub use status::{status, status_all, status_everything};
pub use wait::{WaitGoal, WaitOutcome, wait};
