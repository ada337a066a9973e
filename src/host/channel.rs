//! A byte stream to the agent in a VM, with whatever must stay claimed while it is used.

use std::fs::File;
use std::os::unix::net::UnixStream;

/// A connected stream to an agent.
#[derive(Debug)]
pub struct Channel {
    pub stream: UnixStream,
    /// A claimed port's lock file; the port is free again when this is dropped.
    pub claim: Option<File>,
}
