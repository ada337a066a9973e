//! Finishing what was interrupted, and deleting what is left over.
//!
//! A command that takes a VM's lock settles the VM first ([`settle`]). `reap` settles all VMs, and
//! sweeps what belongs to none.

pub mod processes;
pub mod reap;
mod rebuild;
pub mod settle;
mod sweep;
pub mod teardown;

pub use reap::reap;
pub use rebuild::{RebuildOutcome, rebuild};
