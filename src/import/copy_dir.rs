//! A directory of this host put into a tree.

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

use super::layer::{SkippedEntries, is_kept};
use super::path::{MAX_DEPTH, shown};
use super::rootfs::{EntryAttributes, RootfsEntry, RootfsTree, names_in};
use crate::model::{Refusal, RefusalKind};

/// Puts what is in the directory `from` into `tree`, at `at`. What is mounted in it is left out, as are
/// the directories named by device and inode in `not`. `heard` is called now and then.
pub fn copy(
    from: &OwnedFd,
    at: &Path,
    not: &HashSet<(u64, u64)>,
    tree: &mut RootfsTree,
    left_out: &mut SkippedEntries,
    heard: &mut dyn FnMut(),
) -> Result<()> {
    let device = rustix::fs::fstat(from)?.st_dev;
    let mut walk = Walk { device, not, tree, left_out, heard, names: HashMap::new() };
    walk.directory(from.as_fd(), at, 0)?;
    walk.tree.settle_times()
}

struct Walk<'a> {
    device: u64,
    not: &'a HashSet<(u64, u64)>,
    tree: &'a mut RootfsTree,
    left_out: &'a mut SkippedEntries,
    heard: &'a mut dyn FnMut(),
    /// Where a file with several names was put.
    names: HashMap<u64, PathBuf>,
}

impl Walk<'_> {
    fn directory(&mut self, from: BorrowedFd, at: &Path, depth: usize) -> Result<()> {
        if depth > MAX_DEPTH {
            bail!(Refusal::new(RefusalKind::Usage, format!("{} lies too deep", named(at))));
        }
        let about = rustix::fs::fstat(from)?;
        self.tree.put(at, RootfsEntry::Directory, &attributes(&about, extended(from)?))?;
        for name in names_in(from).with_context(|| unreadable(at))? {
            (self.heard)();
            let place = at.join(&name);
            self.entry(from, &name, &place, depth)
                .with_context(|| format!("cannot copy {}", named(&place)))?;
        }
        Ok(())
    }

    fn entry(&mut self, from: BorrowedFd, name: &OsStr, at: &Path, depth: usize) -> Result<()> {
        let about = rustix::fs::statat(from, name, AtFlags::SYMLINK_NOFOLLOW)?;
        let kind = FileType::from_raw_mode(about.st_mode);
        if kind != FileType::Directory && about.st_nlink > 1 {
            if let Some(first) = self.names.get(&about.st_ino) {
                let first = first.clone();
                return self.tree.put(at, RootfsEntry::Same(first), &EntryAttributes::default());
            }
            self.names.insert(about.st_ino, at.to_owned());
        }
        match kind {
            FileType::Directory => {
                let inner = open(from, name, OFlags::DIRECTORY)?;
                if about.st_dev != self.device || self.not.contains(&(about.st_dev, about.st_ino)) {
                    // The place where something is mounted is part of the system; what is there is not.
                    return self.tree.put(
                        at,
                        RootfsEntry::Directory,
                        &EntryAttributes::plain(0o755),
                    );
                }
                self.directory(inner.as_fd(), at, depth + 1)
            }
            FileType::RegularFile => {
                let opened = File::from(open(from, name, OFlags::NONBLOCK)?);
                // The size as it is now, whoever writes to it.
                let size = opened.metadata()?.size();
                let extended = extended(opened.as_fd())?;
                let mut content = &opened;
                let file = RootfsEntry::File { content: &mut content, size, pieces: &[(0, size)] };
                self.tree.put(at, file, &attributes(&about, extended))
            }
            FileType::Symlink => {
                let target = rustix::fs::readlinkat(from, name, Vec::new())?.into_bytes();
                let target = OsString::from_vec(target);
                self.tree.put(at, RootfsEntry::Link(&target), &attributes(&about, Vec::new()))
            }
            FileType::Fifo => self.tree.put(at, RootfsEntry::Fifo, &attributes(&about, Vec::new())),
            FileType::CharacterDevice | FileType::BlockDevice => {
                self.names.remove(&about.st_ino);
                self.left_out.devices += 1;
                Ok(())
            }
            // Sockets are of programs that run here.
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
                    .hint("import the directory as whom it belongs to, or as root")
            )
        }
        opened => Ok(opened?),
    }
}

fn attributes(about: &Stat, extended: Vec<(OsString, Vec<u8>)>) -> EntryAttributes {
    EntryAttributes {
        mode: about.st_mode & 0o7777,
        uid: about.st_uid,
        gid: about.st_gid,
        mtime: about.st_mtime,
        extended,
    }
}

fn extended(of: BorrowedFd) -> Result<Vec<(OsString, Vec<u8>)>> {
    let mut names = vec![0; 1 << 16];
    let length = match rustix::fs::flistxattr(of, &mut names) {
        Ok(length) => length,
        Err(Errno::NOTSUP) => return Ok(Vec::new()),
        Err(error) => return Err(error.into()),
    };
    let mut found = Vec::new();
    for name in names[..length].split(|&byte| byte == 0).filter(|name| is_kept(name)) {
        let mut value = vec![0; 1 << 16];
        let length = rustix::fs::fgetxattr(of, OsStr::from_bytes(name), &mut value)?;
        value.truncate(length);
        found.push((OsStr::from_bytes(name).to_owned(), value));
    }
    Ok(found)
}

fn named(place: &Path) -> String {
    shown(place.as_os_str().as_bytes())
}

fn unreadable(place: &Path) -> String {
    format!("cannot list {}", named(place))
}

/// Identifies a directory.
pub fn identity(directory: impl AsFd) -> Result<(u64, u64)> {
    let about = rustix::fs::fstat(directory.as_fd())
        .with_context(|| format!("cannot look at descriptor {}", directory.as_fd().as_raw_fd()))?;
    Ok((about.st_dev, about.st_ino))
}
