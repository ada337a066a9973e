//! Copying files into and out of a VM. The command in the VM is the agent itself; a thread here packs the
//! files into a stream, or unpacks them from it. The files are moved to their place when both have succeeded.

mod cancel;
mod fetch;
mod outcome;
mod request;
mod send;
mod worker;

pub use fetch::copy_out;
pub use request::{CopyIn, CopyOut, CopyPayload, CopyStore, CopyUser};
pub use send::copy_in;
