//! Copying a directory of this host into a tree.

use std::collections::{HashMap, HashSet};
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

use super::attributes::EntryAttributes;
use super::path::{MAX_DEPTH, shown};
use super::rootfs::{RootfsEntry, RootfsTree, names_in};
use crate::model::{Refusal, RefusalKind};
use crate::sys::directory_cursor::DirectoryCursor;

/// Copies the contents of the directory `from` into `tree`, at `at`. Other file systems mounted in it are
/// left out, and so are the directories in `not`, given by device and inode.
///
/// # Errors
/// `Usage` for trees that are too deep, `Host` for files that may not be read, and those of
/// [`RootfsTree::put`].
pub fn copy(
    from: &OwnedFd,
    at: &Path,
    not: &HashSet<(u64, u64)>,
    tree: &mut RootfsTree,
) -> Result<()> {
    tree.progress.doing = "copying files".into();
    let device = rustix::fs::fstat(from)?.st_dev;
    let mut walk = Walk { device, not, tree, names: HashMap::new() };
    let mut cursor = DirectoryCursor::at(from.try_clone()?)?;
    let mut place = at.to_owned();
    // The names in each open directory that are still to be copied, the last one first.
    let mut levels = vec![walk.directory(cursor.here(), &place)?];
    while let Some(names) = levels.last_mut() {
        let Some(name) = names.pop() else {
            levels.pop();
            if cursor.depth() > 0 {
                cursor.leave().with_context(|| format!("cannot leave {}", named(&place)))?;
                place.pop();
            }
            continue;
        };
        place.push(&name);
        let entered = walk
            .entry(cursor.here(), &name, &place)
            .with_context(|| format!("cannot copy {}", named(&place)))?;
        match entered {
            Some(_) if cursor.depth() == MAX_DEPTH => {
                bail!(Refusal::usage(format!("{} is too deep", named(&place))));
            }
            Some(inner) => {
                levels.push(walk.directory(inner.as_fd(), &place)?);
                cursor.enter(&name, inner)?;
            }
            None => {
                place.pop();
            }
        }
    }
    walk.tree.set_directory_times()
}

struct Walk<'a> {
    device: u64,
    not: &'a HashSet<(u64, u64)>,
    tree: &'a mut RootfsTree,
    /// The first place of each file with several names, by inode.
    names: HashMap<u64, PathBuf>,
}

impl Walk<'_> {
    /// Makes a directory, and returns the names in it, the last one first.
    fn directory(&mut self, from: BorrowedFd, at: &Path) -> Result<Vec<OsString>> {
        let about = rustix::fs::fstat(from)?;
        self.tree.put(
            at,
            RootfsEntry::Directory,
            &EntryAttributes::of(&about).with_extended(from)?,
        )?;
        let mut names = names_in(from).with_context(|| format!("cannot list {}", named(at)))?;
        names.reverse();
        Ok(names)
    }

    /// Copies a file, or returns the open directory that must be copied.
    fn entry(&mut self, from: BorrowedFd, name: &OsStr, at: &Path) -> Result<Option<OwnedFd>> {
        let about = rustix::fs::statat(from, name, AtFlags::SYMLINK_NOFOLLOW)?;
        let kind = FileType::from_raw_mode(about.st_mode);
        if kind == FileType::Directory {
            let inner = open(from, name, OFlags::DIRECTORY)?;
            if about.st_dev == self.device && !self.not.contains(&(about.st_dev, about.st_ino)) {
                return Ok(Some(inner));
            }
            // A mount point belongs to the system, but what is mounted there does not.
            self.tree.put(at, RootfsEntry::Directory, &EntryAttributes::plain(0o755))?;
            return Ok(None);
        }
        if about.st_nlink > 1 {
            if let Some(first) = self.names.get(&about.st_ino) {
                let first = first.clone();
                self.tree.put(at, RootfsEntry::Same(first), &EntryAttributes::default())?;
                return Ok(None);
            }
            self.names.insert(about.st_ino, at.to_owned());
        }
        self.file(from, name, at, kind, &about).map(|()| None)
    }

    fn file(
        &mut self,
        from: BorrowedFd,
        name: &OsStr,
        at: &Path,
        kind: FileType,
        about: &Stat,
    ) -> Result<()> {
        match kind {
            FileType::RegularFile => {
                let opened = File::from(open(from, name, OFlags::NONBLOCK)?);
                // The current size: the file may have changed since it was looked at.
                let size = opened.metadata()?.size();
                let attributes = EntryAttributes::of(about).with_extended(opened.as_fd())?;
                let mut content = &opened;
                let file = RootfsEntry::File { content: &mut content, size, pieces: &[(0, size)] };
                self.tree.put(at, file, &attributes)
            }
            FileType::Symlink => {
                let target = rustix::fs::readlinkat(from, name, Vec::new())?.into_bytes();
                let target = OsString::from_vec(target);
                self.tree.put(at, RootfsEntry::Link(&target), &EntryAttributes::of(about))
            }
            FileType::Fifo => self.tree.put(at, RootfsEntry::Fifo, &EntryAttributes::of(about)),
            FileType::CharacterDevice | FileType::BlockDevice => {
                self.names.remove(&about.st_ino);
                self.tree.devices += 1;
                Ok(())
            }
            // A socket belongs to a program that runs here.
            _ => {
                self.names.remove(&about.st_ino);
                Ok(())
            }
        }
    }
}

fn open(from: BorrowedFd, name: &OsStr, flags: OFlags) -> Result<OwnedFd> {
    let flags = flags | OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    match rustix::fs::openat(from, name, flags, Mode::empty()) {
        Err(Errno::ACCESS | Errno::PERM) => {
            bail!(
                Refusal::new(RefusalKind::Host, "you may not read it")
                    .hint("import the directory as its owner or as root")
            )
        }
        opened => Ok(opened?),
    }
}

fn named(place: &Path) -> String {
    shown(place.as_os_str().as_bytes())
}

/// Device and inode of a directory.
pub fn identity(directory: impl AsFd) -> Result<(u64, u64)> {
    let about = rustix::fs::fstat(directory.as_fd())
        .with_context(|| format!("cannot look at descriptor {}", directory.as_fd().as_raw_fd()))?;
    Ok((about.st_dev, about.st_ino))
}
