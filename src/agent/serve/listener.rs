//! Listening for connections from the host.

use std::io::{self, ErrorKind};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::net::UnixListener;

use nix::libc::{VMADDR_CID_ANY, VMADDR_CID_HOST};
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, VsockAddr, accept4, bind, getpeername, listen,
    socket,
};

/// A listening socket with one connection for each client.
#[derive(Debug)]
pub enum AgentListener {
    /// The mock backend's, inherited.
    Unix(UnixListener),
    /// A guest's.
    Vsock(OwnedFd),
}

impl AgentListener {
    /// Listens on a vsock port of this guest.
    ///
    /// # Errors
    /// The kernel has no vsock, or the port is in use.
    pub fn vsock(port: u32) -> io::Result<AgentListener> {
        let kind = SockType::Stream;
        let socket = socket(AddressFamily::Vsock, kind, SockFlag::SOCK_CLOEXEC, None)?;
        bind(socket.as_raw_fd(), &VsockAddr::new(VMADDR_CID_ANY, port))?;
        listen(&socket, Backlog::MAXCONN)?;
        Ok(AgentListener::Vsock(socket))
    }

    /// Waits for the next client.
    ///
    /// # Errors
    /// The socket's, such as too many open descriptors. [`ErrorKind::PermissionDenied`] for a client in
    /// the guest: the agent is root and only obeys the host.
    pub fn accept(&self) -> io::Result<OwnedFd> {
        match self {
            AgentListener::Unix(listener) => listener.accept().map(|(stream, _)| stream.into()),
            AgentListener::Vsock(listener) => {
                let number = accept4(listener.as_raw_fd(), SockFlag::SOCK_CLOEXEC)?;
                // SAFETY: the descriptor is new, and nothing else owns it.
                let client = unsafe { OwnedFd::from_raw_fd(number) };
                match getpeername::<VsockAddr>(number)?.cid() {
                    VMADDR_CID_HOST => Ok(client),
                    _ => Err(ErrorKind::PermissionDenied.into()),
                }
            }
        }
    }
}
