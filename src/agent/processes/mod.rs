//! Processes that commands start: collecting them when they end, and killing all of a command.

mod cgroup;
pub mod family;
mod reaper;
mod tree;

pub use cgroup::CgroupRoot;
pub use reaper::{ChildExit, ChildReaper};
pub use tree::ProcessTree;
