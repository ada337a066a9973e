//! The registry of all VMs: one JSON file that is replaced as a whole.
//!
//! Reading needs no lock, because the file is only replaced by rename. Only [`Registry::update`] changes
//! it. Locks are taken in this order: image store, VM, registry. The registry's is held for milliseconds,
//! never while waiting for a process, a guest or a socket.

mod contents;
mod manifest;
mod mark_key;
mod reserve;
mod store;
mod version;

pub use contents::{RegistryContents, SCHEMA, gone};
pub use manifest::{read_vm_files, write_instance, write_manifest};
pub use store::{Registry, RegistryChange};
