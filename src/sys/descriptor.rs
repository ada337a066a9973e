//! Open files by their numbers.

use std::os::fd::AsRawFd;
use std::path::PathBuf;

use nix::libc;

/// A path that leads to the file this descriptor has open, even if that file was renamed or deleted.
/// Opening it makes a new file description, with flags and an offset of its own.
pub fn path(file: &impl AsRawFd) -> PathBuf {
    format!("/proc/self/fd/{}", file.as_raw_fd()).into()
}

/// Opens the standard streams that the parent has closed, so that writing to them fails. The standard library, before
/// whose start this must be called, opens `/dev/null` for writing: output would be lost without an error.
pub extern "C" fn hold_closed_streams() {
    for number in 0..3 {
        // SAFETY: system calls on a number and a constant string. open returns the lowest number that is free, which is
        // this one, as those before it are open.
        unsafe {
            if libc::fcntl(number, libc::F_GETFD) == -1 {
                libc::open(c"/dev/null".as_ptr(), libc::O_RDONLY);
            }
        }
    }
}
