//! A directory beside the destination of a copy, which holds what has arrived until all of it is there.
//! Unless that is put in its place, it is deleted with the directory.

use std::ffi::OsString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use anyhow::{Context, Result};
use rustix::fs::{AtFlags, Mode, mkdirat, openat, unlinkat};

use super::leftovers::{self, PREFIX};
use super::tree::{TreeBuilder, UnpackRules};
use crate::sys::file_system::OPEN_DIRECTORY;
use crate::sys::{random, removal};

/// A staging directory.
#[derive(Debug)]
pub struct StagingDirectory {
    parent: OwnedFd,
    name: OsString,
    /// The directory itself, which no other user may enter.
    top: OwnedFd,
}

impl StagingDirectory {
    /// Creates a directory in `parent`, and deletes those that killed copies left there.
    pub fn beside(parent: BorrowedFd<'_>) -> Result<StagingDirectory> {
        let digits = random::hex::<8>().context("cannot get random bytes")?;
        let name = OsString::from(format!("{PREFIX}{digits}"));
        let parent = parent.try_clone_to_owned().context("cannot hold the directory")?;
        mkdirat(&parent, &name, Mode::from_raw_mode(0o700))
            .context("cannot create a directory there")?;
        match openat(&parent, &name, OPEN_DIRECTORY, Mode::empty()) {
            Ok(top) => {
                leftovers::sweep(parent.as_fd(), top.as_fd());
                Ok(StagingDirectory { parent, name, top })
            }
            Err(errno) => {
                let _ = unlinkat(&parent, &name, AtFlags::REMOVEDIR);
                Err(errno).context("cannot create a directory there")
            }
        }
    }

    /// Begins a tree in it.
    pub fn tree(&self, rules: UnpackRules) -> Result<TreeBuilder> {
        let top = self.top.try_clone().context("cannot hold the directory")?;
        TreeBuilder::new(top, rules)
    }

    /// The directory itself.
    pub(super) fn top(&self) -> BorrowedFd<'_> {
        self.top.as_fd()
    }
}

impl Drop for StagingDirectory {
    fn drop(&mut self) {
        // By descriptor, so that no other directory is emptied if this one was replaced.
        let _ = removal::clear(self.top.as_fd());
        let _ = unlinkat(&self.parent, &self.name, AtFlags::REMOVEDIR);
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::os::unix::fs::symlink;
    use std::path::Path;
    use std::time::Duration;

    use super::super::tree::CONTENT;
    use super::*;

    fn age(path: &Path, seconds: u64) {
        let file = File::open(path).unwrap();
        let now = file.metadata().unwrap().modified().unwrap();
        file.set_modified(now - Duration::from_secs(seconds)).unwrap();
    }

    #[test]
    fn a_new_copy_deletes_what_killed_ones_left_and_nothing_else() {
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
        // A user's directory that has been given such a name.
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
