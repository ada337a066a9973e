//! A byte stream to the agent in a VM, with whatever must stay claimed while it is used.

use std::os::unix::net::UnixStream;

use super::lock::FileLock;

/// A connected stream to an agent.
#[derive(Debug)]
pub struct AgentChannel {
    pub stream: UnixStream,
    /// A claimed port; it is free again when this is dropped.
    pub claim: Option<FileLock>,
}
