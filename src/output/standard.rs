//! The standard streams, which other processes can share: they may be non-blocking, full or closed.

use std::io::{self, ErrorKind, stderr, stdout};
use std::os::fd::{AsFd, BorrowedFd};

use anyhow::{Context, Result};
use rustix::fs::{OFlags, fcntl_getfl};

use crate::host::signals::InterruptWatch;
use crate::sys::poll::PollFlags;

/// Returns whether standard output still has a reader. It is not an error if `head -1` has read enough.
///
/// # Errors
/// Those of write(2); [`SignalInterrupt`](crate::host::signals::SignalInterrupt) while there is no room.
pub(super) fn to_stdout(bytes: &[u8]) -> Result<bool> {
    let is_broken = |error: &anyhow::Error| {
        error.downcast_ref().is_some_and(|error: &io::Error| error.kind() == ErrorKind::BrokenPipe)
    };
    match write(stdout().lock().as_fd(), bytes) {
        Err(error) if is_broken(&error) => Ok(false),
        written => written.context("cannot write to standard output").map(|()| true),
    }
}

/// Errors are ignored, because there is nowhere else to report them.
pub(super) fn to_stderr(text: &str) {
    let _ = write(stderr().lock().as_fd(), text.as_bytes());
}

/// Writes all. The standard library's functions would fail for a non-blocking stream, and ignore that one is not open
/// for writing.
fn write(stream: BorrowedFd<'_>, mut bytes: &[u8]) -> Result<()> {
    let mode = fcntl_getfl(stream).map_err(io::Error::from)? & OFlags::ACCMODE;
    if mode == OFlags::RDONLY {
        return Err(io::Error::from(rustix::io::Errno::BADF).into());
    }
    let watch = InterruptWatch::begin();
    while !bytes.is_empty() {
        watch.wait(Some((stream, PollFlags::POLLOUT)), None)?;
        // A blocking pipe that has room has room for this much.
        match rustix::io::write(stream, &bytes[..bytes.len().min(nix::libc::PIPE_BUF)]) {
            Ok(count) => bytes = &bytes[count..],
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => {}
            Err(error) => return Err(io::Error::from(error).into()),
        }
    }
    Ok(())
}
