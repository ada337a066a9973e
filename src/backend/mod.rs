//! The VMMs, each as a [`Backend`].
//!
//! A backend holds no live handles: it says how a VM's disks are prepared, which program with which
//! arguments runs it, and how its agent is reached. Starting that program, watching it and ending it
//! is the same for all of them, and is done in `host` and `lifecycle`.
//!
//! A VM starts in one of three ways ([`MemorySource`]): it boots, it boots to be frozen, or it resumes as a
//! copy of a frozen one.

mod claim;
mod doctor;
pub(crate) mod firecracker;
mod interface;
mod mock;
mod port;
mod programs;
pub(crate) mod qemu;
mod select;

pub use doctor::{BackendReport, examine};
pub use interface::{
    Backend, BackendVm, DialedStream, MemorySource, MonitorStream, StreamPurpose, VmTraces,
    VmmStart,
};
pub use programs::{BackendPrograms, installed_agent};
pub use select::{BackendRequest, all_traces, of_manifest, select, traces};
