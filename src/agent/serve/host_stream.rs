//! A byte stream to the host: a connection or a virtio-serial port.
//!
//! A connection serves one client and ends with it. A port is one descriptor for as long as the guest
//! runs, and clients on the host use it one after the other. While no client has it open, reads return
//! 0 bytes at once and `poll` reports `POLLHUP`. Waiting for the next client therefore uses
//! edge-triggered epoll, which reports only changes.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use rustix::io::retry_on_intr;

use crate::sys::nonblocking::set_nonblocking;
use crate::sys::poll::{self, PollFlags};

/// How long a port must report no client until the client counts as gone. A client's data and the
/// message that it has opened the port arrive in different queues, so the data can be first; and
/// between two clients there is a moment without one.
const GONE_AFTER: Duration = Duration::from_millis(50);

/// A byte stream to the host.
#[derive(Debug)]
pub struct HostStream {
    fd: OwnedFd,
    /// Only for a port.
    changes: Option<Epoll>,
}

impl HostStream {
    /// A stream that ends with its client.
    ///
    /// # Errors
    /// The descriptor cannot be made non-blocking.
    pub fn connection(fd: OwnedFd) -> io::Result<HostStream> {
        set_nonblocking(&fd)?;
        Ok(HostStream { fd, changes: None })
    }

    /// A stream that outlives its clients.
    ///
    /// # Errors
    /// The descriptor cannot be made non-blocking or watched.
    pub fn port(fd: OwnedFd) -> io::Result<HostStream> {
        set_nonblocking(&fd)?;
        let changes = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        let all = EpollFlags::EPOLLIN | EpollFlags::EPOLLOUT | EpollFlags::EPOLLET;
        changes.add(&fd, EpollEvent::new(all, 0))?;
        Ok(HostStream { fd, changes: Some(changes) })
    }

    /// Waits until there may be something to read.
    pub fn wait(&self) {
        match &self.changes {
            Some(changes) => {
                let _ = changes.wait(&mut [EpollEvent::empty()], EpollTimeout::NONE);
            }
            None => {
                let _ = poll::wait_for(self.fd.as_fd(), PollFlags::POLLIN, None);
            }
        }
    }

    /// Reads what is there. `Ok(0)` means that the client has gone; on a port it may have been an
    /// earlier client (see [`HostStream::confirm_gone`]).
    ///
    /// # Errors
    /// The kernel's; [`io::ErrorKind::WouldBlock`] if there is nothing to read.
    pub fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        Ok(retry_on_intr(|| rustix::io::read(&self.fd, &mut *buffer))?)
    }

    /// Writes as many bytes as the stream takes.
    ///
    /// # Errors
    /// The kernel's; [`io::ErrorKind::WouldBlock`] if it takes none.
    pub fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        Ok(retry_on_intr(|| rustix::io::write(&self.fd, bytes))?)
    }

    /// Whether the client has gone, after a read returned 0 bytes. On a port this may take 100 ms.
    pub fn confirm_gone(&self) -> bool {
        let Some(changes) = &self.changes else {
            return true;
        };
        let limit = EpollTimeout::try_from(GONE_AFTER).expect("50 ms are a valid timeout");
        // The first report may be from before the read; the second is not.
        for _ in 0..2 {
            if !self.hung_up() {
                return false;
            }
            let _ = changes.wait(&mut [EpollEvent::empty()], limit);
        }
        self.hung_up()
    }

    /// Whether the client has gone, without reading.
    pub fn is_gone(&self) -> bool {
        self.hung_up() && self.confirm_gone()
    }

    /// Whether it is a connection, not a port.
    pub fn is_connection(&self) -> bool {
        self.changes.is_none()
    }

    fn hung_up(&self) -> bool {
        poll::is_ready(self.fd.as_fd(), PollFlags::empty())
    }
}

impl AsFd for HostStream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
