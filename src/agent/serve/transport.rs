//! A line to the host, in one of two shapes.
//!
//! A *connection* is made for one client and ends with it. A *port* is a virtio-serial port: the
//! same descriptor for as long as the guest runs, whatever clients come and go on the host. Linux
//! tells a port's reader that no client is there by reading nothing at all, at once and again and
//! again, and by `POLLHUP`; so waiting for the next client needs something that reports changes
//! only, which is edge-triggered epoll: the driver wakes its waiters when a client comes.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};

use crate::sys::nonblocking::set_nonblocking;
use crate::sys::poll::{self, PollFlags};

/// How long a port must show no client before one is believed to be gone. The data of a client and
/// the news of its coming travel in different queues, so the data can be here first; and between
/// two clients there is a moment without any.
const GONE_AFTER: Duration = Duration::from_millis(50);

/// A byte stream to the host.
#[derive(Debug)]
pub struct HostStream {
    fd: OwnedFd,
    changes: Option<Epoll>,
}

impl HostStream {
    /// A line that ends with its client.
    ///
    /// # Errors
    /// When the descriptor cannot be made non-blocking.
    pub fn connection(fd: OwnedFd) -> io::Result<HostStream> {
        set_nonblocking(&fd)?;
        Ok(HostStream { fd, changes: None })
    }

    /// A line that outlives its clients.
    ///
    /// # Errors
    /// When the descriptor cannot be made non-blocking or watched.
    pub fn port(fd: OwnedFd) -> io::Result<HostStream> {
        set_nonblocking(&fd)?;
        let changes = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        let all = EpollFlags::EPOLLIN | EpollFlags::EPOLLOUT | EpollFlags::EPOLLET;
        changes.add(&fd, EpollEvent::new(all, 0))?;
        Ok(HostStream { fd, changes: Some(changes) })
    }

    /// Waits, without using the CPU, until reading may bring something.
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

    /// Reads what is there: `Ok(0)` is the end of the client, or on a port perhaps of an earlier
    /// one (ask [`HostStream::lost`]); [`io::ErrorKind::WouldBlock`] is nothing now.
    ///
    /// # Errors
    /// The transport's.
    pub fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        retry(|| nix::unistd::read(&self.fd, buffer))
    }

    /// Writes what the transport takes now.
    ///
    /// # Errors
    /// The transport's; [`io::ErrorKind::WouldBlock`] when it takes nothing now.
    pub fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        retry(|| nix::unistd::write(&self.fd, bytes))
    }

    /// After a read brought nothing: whether the client is really gone. On a port that may take
    /// 50 ms to find out.
    pub fn lost(&self) -> bool {
        let Some(changes) = &self.changes else {
            return true;
        };
        let limit = EpollTimeout::try_from(GONE_AFTER).expect("50 ms are a valid timeout");
        // The first report may be an old one, from before the silence; the second is news.
        for _ in 0..2 {
            if !self.hung_up() {
                return false;
            }
            let _ = changes.wait(&mut [EpollEvent::empty()], limit);
        }
        self.hung_up()
    }

    /// Whether the client is gone, without reading.
    pub fn gone(&self) -> bool {
        self.hung_up() && self.lost()
    }

    /// Whether the line ends with its client.
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

fn retry(mut call: impl FnMut() -> nix::Result<usize>) -> io::Result<usize> {
    loop {
        match call() {
            Err(Errno::EINTR) => {}
            result => return result.map_err(io::Error::from),
        }
    }
}
