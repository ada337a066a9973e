//! Descriptors that the agent inherits and commands must not.

use std::os::fd::{FromRawFd, OwnedFd, RawFd};

use nix::errno::Errno;
use nix::libc;

/// Marks all descriptors but the standard streams as closed on exec, so that commands do not inherit
/// them.
///
/// # Errors
/// The kernel's; Linux has this since 5.11.
pub fn close_on_exec() -> nix::Result<()> {
    let flags = libc::CLOSE_RANGE_CLOEXEC;
    // SAFETY: nothing is closed, only a flag is set that acts at exec.
    let result = unsafe { libc::syscall(libc::SYS_close_range, 3, libc::c_uint::MAX, flags) };
    Errno::result(result).map(drop)
}

/// Takes an inherited descriptor by its number.
///
/// # Errors
/// The number is not open.
pub fn inherited(number: RawFd) -> nix::Result<OwnedFd> {
    // SAFETY: F_GETFD only asks; a number that is not open is an error.
    Errno::result(unsafe { libc::fcntl(number, libc::F_GETFD) })?;
    // SAFETY: it is open, was given to this process for this purpose, and is taken once.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}
