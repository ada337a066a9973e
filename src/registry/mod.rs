//! The registry: which VMs there are, in one JSON file that is replaced as a whole.
//!
//! Reading needs no lock, because the file is only ever replaced by rename. [`Registry::update`] is
//! the one way to change it. The locks, from the outside in, are image store → VM → registry; the
//! registry's is held for milliseconds and never across a process, a guest or a socket.

mod contents;
mod manifest;
mod reserve;
mod store;
mod version;

pub use contents::{RegistryContents, SCHEMA, gone};
pub use manifest::{read_manifest, sweep_manifest, write_manifest};
pub use store::{Registry, RegistryChange};
