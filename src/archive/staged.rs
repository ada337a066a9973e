//! What has arrived and is not in its place yet: in a directory of our own beside that place, which
//! vanishes with everything in it unless it is put there.

use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

use anyhow::{Context, Result};
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, fchmod, mkdirat, openat, statat, unlinkat};
use rustix::io::Errno;

use super::leftovers;
use super::tree::{HOLD, TreeBuilder, UnpackRules};
use crate::sys::{descriptor, random};

/// How the directory is called, before random digits. Whoever finds one knows where it is from.
pub(super) const PREFIX: &str = ".mayfly-cp-";

/// How often a directory is gone through until nothing is in it: twice, unless somebody puts things there.
const PASSES: usize = 100;

/// A place for what arrives.
#[derive(Debug)]
pub struct StagingDirectory {
    /// Where the directory is.
    parent: OwnedFd,
    name: OsString,
    /// The directory itself; nobody else may enter it.
    top: OwnedFd,
}

impl StagingDirectory {
    /// A new directory in `parent`, and none there that a killed copy left.
    ///
    /// # Errors
    /// The file system's.
    pub fn beside(parent: BorrowedFd<'_>) -> Result<StagingDirectory> {
        let digits = random::hex::<8>().context("cannot get random bytes")?;
        let name = OsString::from(format!("{PREFIX}{digits}"));
        let parent = parent.try_clone_to_owned().context("cannot hold the directory")?;
        mkdirat(&parent, &name, Mode::from_raw_mode(0o700))
            .map_err(std::io::Error::from)
            .context("cannot make a directory there")?;
        match openat(&parent, &name, HOLD, Mode::empty()) {
            Ok(top) => {
                leftovers::sweep(parent.as_fd(), top.as_fd());
                Ok(StagingDirectory { parent, name, top })
            }
            Err(errno) => {
                let _ = unlinkat(&parent, &name, AtFlags::REMOVEDIR);
                Err(std::io::Error::from(errno)).context("cannot make a directory there")
            }
        }
    }

    /// The tree that is made in it.
    ///
    /// # Errors
    /// Where there are no more descriptors.
    pub fn tree(&self, rules: UnpackRules) -> Result<TreeBuilder> {
        let top = self.top.try_clone().context("cannot hold the directory")?;
        Ok(TreeBuilder::new(top, rules))
    }

    /// The directory that everything is in.
    pub(super) fn top(&self) -> BorrowedFd<'_> {
        self.top.as_fd()
    }
}

impl Drop for StagingDirectory {
    fn drop(&mut self) {
        // By what is held, so that nobody can have another directory emptied. There is nobody to tell
        // of what cannot be deleted.
        let _ = empty(self.top.as_fd());
        let _ = unlinkat(&self.parent, &self.name, AtFlags::REMOVEDIR);
    }
}

/// Deletes everything in a directory.
pub(super) fn empty(directory: BorrowedFd<'_>) -> Result<(), Errno> {
    // What arrived may have modes that keep even its owner out.
    let _ = fchmod(directory, Mode::from_raw_mode(0o700));
    drain(directory, &mut |name| {
        let stat = statat(directory, name, AtFlags::SYMLINK_NOFOLLOW)?;
        if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
            // Also where it cannot be opened: then only this one stays.
            if let Ok(below) = open_shut(directory, name) {
                empty(below.as_fd())?;
            }
            unlinkat(directory, name, AtFlags::REMOVEDIR)?;
        } else {
            unlinkat(directory, name, AtFlags::empty())?;
        }
        Ok(())
    })
}

/// Opens a directory of ours for reading, whatever its mode is.
pub(super) fn open_shut(parent: BorrowedFd<'_>, name: &OsStr) -> Result<OwnedFd, Errno> {
    match openat(parent, name, HOLD, Mode::empty()) {
        Err(Errno::ACCESS) => {
            // A mode can be changed through /proc alone without following a link.
            let path = openat(parent, name, HOLD | OFlags::PATH, Mode::empty())?;
            rustix::fs::chmod(descriptor::path(&path), Mode::from_raw_mode(0o700))?;
            openat(parent, name, HOLD, Mode::empty())
        }
        other => other,
    }
}

/// Goes through the names in a directory, of which there may be more than fit into memory.
pub(super) fn each<E: From<Errno>>(
    directory: BorrowedFd<'_>,
    act: &mut dyn FnMut(&OsStr) -> Result<(), E>,
) -> Result<(), E> {
    for entry in Dir::read_from(directory)? {
        let entry = entry?;
        match entry.file_name().to_bytes() {
            b"." | b".." => {}
            name => act(OsStr::from_bytes(name))?,
        }
    }
    Ok(())
}

/// The same, where each name that was acted on is gone. What a file system passes over because of that
/// is found the next time.
pub(super) fn drain<E: From<Errno>>(
    directory: BorrowedFd<'_>,
    act: &mut dyn FnMut(&OsStr) -> Result<(), E>,
) -> Result<(), E> {
    for _ in 0..PASSES {
        let mut any = false;
        each(directory, &mut |name| {
            any = true;
            act(name)
        })?;
        if !any {
            return Ok(());
        }
    }
    Err(Errno::BUSY.into())
}
