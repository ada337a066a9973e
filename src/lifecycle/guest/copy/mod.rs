//! Copying files into and out of a VM. The command in the VM is the agent itself; a thread here packs the
//! files into a stream, or unpacks them from it. The files are moved to their place when both have succeeded.

mod cancel;
mod copy_in;
mod copy_out;
mod disk_copy;
mod outcome;
mod request;
mod size;
mod unignored;
mod worker;

pub use copy_in::copy_in;
pub use copy_out::copy_out;
pub use disk_copy::{DiskCopy, DiskCopyPlan};
pub use request::{CopyIn, CopyOut, CopyPayload, CopyStore, CopyUser};
pub use size::{CopyRoom, CopySize};
