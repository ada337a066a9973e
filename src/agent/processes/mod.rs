//! Processes that commands start: collecting them when they end, and killing all of a command.

mod cgroup;
pub mod family;
mod reaper;
mod tree;

pub use cgroup::Cgroups;
pub use reaper::{Ending, Reaper};
pub use tree::Tree;
