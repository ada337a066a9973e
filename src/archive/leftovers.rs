//! What copies that were killed have left beside their destinations: deleted by the next one that goes
//! there.
//!
//! A copy holds a lock on its directory as long as it lives. The lock comes a moment after the directory,
//! so only one that has been there for a while and is not locked is a leftover. Whoever may write in the
//! parent could give another directory such a name, for us to empty it; so only one that nothing but a copy's
//! own is in is believed to be one.

use std::ffi::{CStr, OsStr};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;

use nix::unistd::geteuid;
use rustix::fs::{
    AtFlags, Dir, FileType, FlockOperation, Mode, flock, fstat, openat, statat, unlinkat,
};
use rustix::io::Errno;

use super::directories::{OPEN_DIRECTORY, delete_contents, for_each_name};
use super::tree::CONTENT;

/// The name of a copy's directory, before 16 random hexadecimal digits.
pub const PREFIX: &str = ".mayfly-cp-";

/// How much older than a new directory one must be, in seconds of the file system's own clock.
const YOUNG: i64 = 60;

/// Locks a new directory of a copy's, and deletes the leftovers in its parent. What cannot be deleted
/// stays; who keeps the copy itself from working will say so.
pub fn sweep(parent: BorrowedFd<'_>, ours: BorrowedFd<'_>) {
    // Where there are no locks, nobody knows what is left over.
    if flock(ours, FlockOperation::NonBlockingLockExclusive).is_err() {
        return;
    }
    let (Ok(ours), Ok(entries)) = (fstat(ours), Dir::read_from(parent)) else { return };
    for entry in entries.flatten() {
        if is_ours(entry.file_name()) {
            delete(parent, entry.file_name(), ours.st_mtime - YOUNG);
        }
    }
}

fn is_ours(name: &CStr) -> bool {
    let digits = name.to_bytes().strip_prefix(PREFIX.as_bytes());
    digits.is_some_and(|digits| digits.len() == 16 && digits.iter().all(u8::is_ascii_hexdigit))
}

/// Deletes a leftover that was last changed before that time.
fn delete(parent: BorrowedFd<'_>, name: &CStr, before: i64) {
    let name = OsStr::from_bytes(name.to_bytes());
    let Ok(stat) = statat(parent, name, AtFlags::SYMLINK_NOFOLLOW) else { return };
    let is_directory = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
    if !is_directory || stat.st_uid != geteuid().as_raw() || stat.st_mtime > before {
        return;
    }
    let Ok(directory) = openat(parent, name, OPEN_DIRECTORY, Mode::empty()) else { return };
    if flock(&directory, FlockOperation::NonBlockingLockExclusive).is_ok()
        && is_a_copys(directory.as_fd())
        && delete_contents(directory.as_fd()).is_ok()
    {
        let _ = unlinkat(parent, name, AtFlags::REMOVEDIR);
    }
}

/// Whether nothing is in a directory that a copy does not put there.
fn is_a_copys(directory: BorrowedFd<'_>) -> bool {
    for_each_name(directory, &mut |name| if name == CONTENT { Ok(()) } else { Err(Errno::EXIST) })
        .is_ok()
}
