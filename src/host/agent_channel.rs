//! A byte stream to the agent in a VM.

use std::os::unix::net::UnixStream;

use super::lock::FileLock;

/// A connected stream to an agent.
#[derive(Debug)]
pub struct AgentChannel {
    pub stream: UnixStream,
    /// A lock on the port; dropping it releases the port.
    pub claim: Option<FileLock>,
}
