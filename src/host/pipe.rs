//! Pipes between two threads of a command.

use std::os::fd::OwnedFd;

use anyhow::{Context, Result};
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::unistd::pipe2;

/// Four of the largest frames, so that neither thread waits for the other after each.
const SIZE: i32 = 256 * 1024;

/// A pipe's two ends, the reading one first.
pub fn open() -> Result<(OwnedFd, OwnedFd)> {
    let ends = pipe2(OFlag::O_CLOEXEC).context("cannot make a pipe")?;
    // A user may have used up what the kernel grants to pipes; the usual size does, only slower.
    let _ = fcntl(&ends.0, FcntlArg::F_SETPIPE_SZ(SIZE));
    Ok(ends)
}
