//! Staging directories that killed copies left beside their destinations. The next copy to the same
//! place deletes them.
//!
//! A copy locks its directory for as long as it runs. It creates the directory before it can lock it, so a
//! leftover is one that is not locked and has a certain age. Another user who may write in the parent could
//! give a directory such a name to have it emptied, so a leftover must also contain nothing but a copy.

use std::ffi::{CStr, OsStr};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;

use nix::unistd::geteuid;
use rustix::fs::{
    AtFlags, Dir, FileType, FlockOperation, Mode, flock, fstat, openat, statat, unlinkat,
};
use rustix::io::Errno;

use super::tree::CONTENT;
use crate::sys::directory_cursor::for_each_name;
use crate::sys::file_system::OPEN_DIRECTORY;
use crate::sys::removal;

/// The name of a copy's directory, before 16 random hexadecimal digits.
pub const PREFIX: &str = ".mayfly-cp-";

/// The least age of a leftover, in seconds of the file system's clock.
const MIN_AGE: i64 = 60;

/// Locks the new directory of a copy and deletes the leftovers in its parent, as far as that works.
pub fn sweep(parent: BorrowedFd<'_>, ours: BorrowedFd<'_>) {
    // Without locks, leftovers cannot be told from copies that run.
    if flock(ours, FlockOperation::NonBlockingLockExclusive).is_err() {
        return;
    }
    let (Ok(ours), Ok(entries)) = (fstat(ours), Dir::read_from(parent)) else { return };
    for entry in entries.flatten() {
        if is_ours(entry.file_name()) {
            delete(parent, entry.file_name(), ours.st_mtime - MIN_AGE);
        }
    }
}

fn is_ours(name: &CStr) -> bool {
    let digits = name.to_bytes().strip_prefix(PREFIX.as_bytes());
    digits.is_some_and(|digits| digits.len() == 16 && digits.iter().all(u8::is_ascii_hexdigit))
}

/// Deletes a leftover that was last modified at `before` or earlier.
fn delete(parent: BorrowedFd<'_>, name: &CStr, before: i64) {
    let name = OsStr::from_bytes(name.to_bytes());
    let Ok(stat) = statat(parent, name, AtFlags::SYMLINK_NOFOLLOW) else { return };
    let is_directory = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
    if !is_directory || stat.st_uid != geteuid().as_raw() || stat.st_mtime > before {
        return;
    }
    let Ok(directory) = openat(parent, name, OPEN_DIRECTORY, Mode::empty()) else { return };
    if flock(&directory, FlockOperation::NonBlockingLockExclusive).is_ok()
        && holds_a_copy(directory.as_fd())
        && removal::clear(directory.as_fd()).is_ok()
    {
        let _ = unlinkat(parent, name, AtFlags::REMOVEDIR);
    }
}

/// Whether a directory contains nothing but a copy.
fn holds_a_copy(directory: BorrowedFd<'_>) -> bool {
    for_each_name(directory, &mut |name| if name == CONTENT { Ok(()) } else { Err(Errno::EXIST) })
        .is_ok()
}
