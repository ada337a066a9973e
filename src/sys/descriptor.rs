//! Open files by their numbers.

use std::os::fd::AsRawFd;
use std::path::PathBuf;

/// A path that leads to the file this descriptor has open, even if that file was renamed or deleted.
/// Opening it makes a new file description, with flags and an offset of its own.
pub fn path(file: &impl AsRawFd) -> PathBuf {
    format!("/proc/self/fd/{}", file.as_raw_fd()).into()
}
