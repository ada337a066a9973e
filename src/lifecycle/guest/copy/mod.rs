//! Copying files into a VM and out of one: a command in the VM that is the agent itself, with a thread
//! here that makes a stream of a tree, or a tree of a stream. What arrives is put in its place when both
//! have ended well, here as there.

mod alarm;
mod beside;
mod ended;
mod fetch;
mod request;
mod send;

pub use fetch::copy_out;
pub use request::{CopyIn, CopyOut, CopyPayload, CopyStore, CopyUser};
pub use send::copy_in;
