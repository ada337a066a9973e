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

use super::staged::{PREFIX, each, empty};
use super::tree::{CONTENT, HOLD};

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
    let Ok(directory) = openat(parent, name, HOLD, Mode::empty()) else { return };
    if flock(&directory, FlockOperation::NonBlockingLockExclusive).is_ok()
        && is_a_copys(directory.as_fd())
        && empty(directory.as_fd()).is_ok()
    {
        let _ = unlinkat(parent, name, AtFlags::REMOVEDIR);
    }
}

/// Whether nothing is in a directory that a copy does not put there.
fn is_a_copys(directory: BorrowedFd<'_>) -> bool {
    each(directory, &mut |name| if name == CONTENT { Ok(()) } else { Err(Errno::EXIST) }).is_ok()
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::os::unix::fs::symlink;
    use std::path::Path;
    use std::time::Duration;

    use super::*;
    use crate::archive::StagingDirectory;

    fn age(path: &Path, seconds: u64) {
        let file = File::open(path).unwrap();
        let now = file.metadata().unwrap().modified().unwrap();
        file.set_modified(now - Duration::from_secs(seconds)).unwrap();
    }

    #[test]
    fn what_a_killed_copy_left_is_deleted_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        let parent = File::open(dir.path()).unwrap();
        let one = |number: u8| format!("{PREFIX}{number:016x}");
        let live = StagingDirectory::beside(parent.as_fd()).unwrap();
        fs::create_dir_all(at(&one(1)).join(CONTENT).join("d")).unwrap();
        fs::write(at(&one(1)).join(CONTENT).join("d/f"), "x").unwrap();
        let kept = [one(2), one(3), format!("{PREFIX}user"), "other".into(), one(4)];
        fs::create_dir(at("other")).unwrap();
        fs::create_dir(at(&kept[0])).unwrap();
        symlink("other", at(&kept[1])).unwrap();
        fs::create_dir(at(&kept[2])).unwrap();
        // Something of the user's that somebody else has given this name.
        fs::create_dir(at(&kept[4])).unwrap();
        fs::write(at(&kept[4]).join("thesis"), "x").unwrap();
        for (name, seconds) in [(one(1), 90), (one(2), 30), (kept[2].clone(), 90), (one(4), 90)] {
            age(&at(&name), seconds);
        }
        let names = || {
            let names = fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name());
            names.collect::<Vec<_>>()
        };
        for name in names() {
            let live = !kept.iter().any(|kept| name == kept.as_str()) && name != one(1).as_str();
            if live {
                age(&dir.path().join(name), 90);
            }
        }

        let second = StagingDirectory::beside(parent.as_fd()).unwrap();
        assert!(!at(&one(1)).exists());
        assert!(kept.iter().all(|name| fs::symlink_metadata(at(name)).is_ok()));
        assert_eq!(names().len(), kept.len() + 2, "{:?}", names());
        drop((live, second));
        assert_eq!(names().len(), kept.len());
    }
}
