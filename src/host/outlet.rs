//! A descriptor of the user's that is written to without waiting for it, whatever it is.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};

use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

/// Where something goes. Other processes may share the descriptor: making it non-blocking would change
/// it for them.
#[derive(Debug)]
pub struct NonblockingWriter(Way);

#[derive(Debug)]
enum Way {
    /// A file or a device that takes what it is given.
    Patient(File),
    /// Our own non-blocking opening of the same pipe or terminal.
    Own(File),
    /// Something that can only be asked whether it has room.
    Shared(File),
}

impl NonblockingWriter {
    /// # Errors
    /// Where it cannot be looked at.
    pub fn new(file: File) -> io::Result<NonblockingWriter> {
        let kind = file.metadata()?.file_type();
        let is_terminal = std::io::IsTerminal::is_terminal(&file);
        if kind.is_file() || (kind.is_char_device() && !is_terminal) {
            return Ok(NonblockingWriter(Way::Patient(file)));
        }
        if kind.is_fifo() || is_terminal {
            // Opening through /proc makes a new description with flags of its own. It may be
            // forbidden, as to a user who inherited another's pipe.
            let own = OpenOptions::new()
                .write(true)
                .custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY)
                .open(format!("/proc/self/fd/{}", file.as_raw_fd()));
            if let Ok(own) = own {
                return Ok(NonblockingWriter(Way::Own(own)));
            }
        }
        Ok(NonblockingWriter(Way::Shared(file)))
    }

    /// Writes what is taken now: perhaps nothing.
    ///
    /// # Errors
    /// The descriptor's own; [`ErrorKind::BrokenPipe`] when nobody reads it any more.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut written = 0;
        while written < bytes.len() {
            let rest = &bytes[written..];
            let result = match &mut self.0 {
                Way::Patient(file) | Way::Own(file) => file.write(rest),
                // A pipe that has room for anything has room for PIPE_BUF bytes.
                Way::Shared(file) if has_room(file) => {
                    file.write(&rest[..rest.len().min(libc::PIPE_BUF)])
                }
                Way::Shared(_) => break,
            };
            match result {
                Ok(count) => written += count,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        Ok(written)
    }
}

impl AsFd for NonblockingWriter {
    /// Writable when more is taken.
    fn as_fd(&self) -> BorrowedFd<'_> {
        match &self.0 {
            Way::Patient(file) | Way::Own(file) | Way::Shared(file) => file.as_fd(),
        }
    }
}

fn has_room(file: &File) -> bool {
    let mut fds = [PollFd::new(file.as_fd(), PollFlags::POLLOUT)];
    // An error condition counts as room: writing brings it to light.
    poll(&mut fds, PollTimeout::ZERO).is_ok_and(|ready| ready > 0)
}
