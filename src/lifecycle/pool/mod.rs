//! VMs that were started, have run a command, and wait for a user.
//!
//! A command that fills the pool owns its VM until it waits, as `run` does, so that a killed one leaves nothing. A
//! waiting VM has no owner. It powers off by itself at the end of its life.

mod fill;
mod list;
pub mod take;

pub use fill::{FillLock, SUFFIX, fill, waiting};
pub use list::{drain, list};
