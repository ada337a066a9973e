//! Looking at VMs without changing them: what they are, what they print, and when that changes.

mod activity;
mod logs;
mod status;
mod wait;

pub use activity::VmWatcher;
pub use logs::{LogFollower, LogKind, read_log};
pub use status::{status, status_all};
pub use wait::{WaitGoal, WaitOutcome, wait};
