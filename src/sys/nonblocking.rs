//! Reading and writing without waiting.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, IsTerminal, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};

use nix::libc;
use rustix::fs::{OFlags, fcntl_getfl};
use rustix::io::ioctl_fionbio;

use super::descriptor;
use super::poll::{self, PollFlags};

/// Makes a descriptor non-blocking, for all processes that share it: not for standard streams, which
/// [`NonblockingWriter`] is for.
pub fn set_nonblocking(fd: impl AsFd) -> io::Result<()> {
    Ok(ioctl_fionbio(fd, true)?)
}

/// Whether an error only means that the call must be made again, perhaps after waiting.
pub fn would_block(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted)
}

/// A descriptor that other processes may share, such as standard output, written to without waiting.
/// Making it non-blocking would change it for them too.
#[derive(Debug)]
pub struct NonblockingWriter(WriteMethod);

#[derive(Debug)]
enum WriteMethod {
    /// A regular file or a device, to which writing does not wait for long.
    Blocking(File),
    /// Our own non-blocking file description of the same pipe or terminal.
    Reopened(File),
    /// Anything else is asked whether it has room before each write.
    Shared(File),
}

impl NonblockingWriter {
    pub fn new(file: File) -> io::Result<NonblockingWriter> {
        let kind = file.metadata()?.file_type();
        let is_terminal = file.is_terminal();
        // Writing to one that is not open for writing fails at once; waiting for room would not end.
        let is_writable = fcntl_getfl(&file)? & OFlags::ACCMODE != OFlags::RDONLY;
        if !is_writable || kind.is_file() || (kind.is_char_device() && !is_terminal) {
            return Ok(NonblockingWriter(WriteMethod::Blocking(file)));
        }
        if kind.is_fifo() || is_terminal {
            // This is forbidden to a user who inherited another user's pipe.
            let own = OpenOptions::new()
                .write(true)
                .custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY)
                .open(descriptor::path(&file));
            if let Ok(own) = own {
                return Ok(NonblockingWriter(WriteMethod::Reopened(own)));
            }
        }
        Ok(NonblockingWriter(WriteMethod::Shared(file)))
    }

    /// Writes as much as there is room for, and returns how much that was.
    ///
    /// # Errors
    /// Those of write(2); [`ErrorKind::BrokenPipe`] when the reader is gone.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut written = 0;
        while written < bytes.len() {
            let rest = &bytes[written..];
            let result = match &mut self.0 {
                WriteMethod::Blocking(file) | WriteMethod::Reopened(file) => file.write(rest),
                // A pipe that has room has room for PIPE_BUF bytes. One with an error counts as ready:
                // writing returns that error.
                WriteMethod::Shared(file) if poll::is_ready(file.as_fd(), PollFlags::POLLOUT) => {
                    file.write(&rest[..rest.len().min(libc::PIPE_BUF)])
                }
                WriteMethod::Shared(_) => break,
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
    /// Writable when there is room.
    fn as_fd(&self) -> BorrowedFd<'_> {
        match &self.0 {
            WriteMethod::Blocking(file)
            | WriteMethod::Reopened(file)
            | WriteMethod::Shared(file) => file.as_fd(),
        }
    }
}
