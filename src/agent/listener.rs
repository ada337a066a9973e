//! Where connections come from.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;

/// A socket that hands out one connection for each client.
#[derive(Debug)]
pub enum Listener {
    /// The mock backend's, inherited.
    Unix(UnixListener),
}

impl Listener {
    /// Waits for the next client.
    ///
    /// # Errors
    /// The socket's; too many open descriptors among them.
    pub fn accept(&self) -> io::Result<OwnedFd> {
        match self {
            Listener::Unix(listener) => listener.accept().map(|(stream, _)| stream.into()),
        }
    }
}
