//! Making a tree of files, entry by entry, each in a directory that is held open.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

use anyhow::{Context, Result};
use rustix::fs::{
    AtFlags, Mode, OFlags, Stat, fchmod, fstat, futimens, linkat, mkdirat, openat, symlinkat,
    unlinkat, utimensat,
};
use rustix::io::Errno;

use super::broken::ArchiveError;
use super::directories::OPEN_DIRECTORY;
use super::entry::{EntryKind, FileTime, TarEntry};
use super::name::EntryName;
use super::receive::EntrySink;

/// What the root is called in the directory it is made in. Nobody else calls anything so: that is how a
/// directory of a copy is known ([`super::leftovers`]).
pub const CONTENT: &str = "mayfly-cp-content";

/// What is moved at once.
const CHUNK: usize = 128 * 1024;

/// What is kept of entries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UnpackRules {
    /// Permissions that are given to nothing.
    pub umask: u32,
    /// Whether symbolic links are kept.
    pub links: bool,
}

/// A tree that is being made below [`CONTENT`].
#[derive(Debug)]
pub struct TreeBuilder {
    top: OwnedFd,
    /// Taken away from all permissions.
    umask: u32,
    /// Whether links are kept.
    links: bool,
    /// The directory the stream is in, and those it is in, the root first.
    levels: Vec<Level>,
    chunk: Box<[u8]>,
}

#[derive(Debug)]
struct Level {
    part: Vec<u8>,
    directory: OwnedFd,
    /// What it gets when all that is in it is there.
    mode: u32,
    modified: FileTime,
}

impl TreeBuilder {
    /// A tree in an empty directory, in which the only links are such as the stream has.
    pub fn new(top: OwnedFd, rules: UnpackRules) -> TreeBuilder {
        let UnpackRules { umask, links } = rules;
        TreeBuilder { top, umask, links, levels: Vec::new(), chunk: vec![0; CHUNK].into() }
    }

    /// Gives the directories that are still open what they shall have. Without it, the tree is not
    /// complete.
    ///
    /// # Errors
    /// The file system's.
    pub fn finish(&mut self) -> Result<()> {
        self.close_to(0)
    }

    /// The root as a directory, for who has none in its stream.
    ///
    /// # Errors
    /// The file system's.
    pub fn make_root(&mut self) -> Result<()> {
        let entry = TarEntry {
            name: EntryName::root(),
            kind: EntryKind::Directory,
            mode: 0o755,
            modified: FileTime::default(),
        };
        self.directory(&entry)
    }

    /// Brings the stream into the directory of this name, leaving those it is not in and entering, or
    /// making, those it is in: for archives that are in no order. Links are not followed.
    ///
    /// # Errors
    /// The file system's.
    pub fn enter(&mut self, parts: &[Vec<u8>]) -> Result<()> {
        let open = self.levels.iter().skip(1).map(|level| &level.part);
        let same = open.zip(parts).take_while(|(open, part)| open == part).count();
        self.close_to(same + 1)?;
        for part in &parts[same..] {
            let parent = self.innermost();
            match mkdirat(parent, OsStr::from_bytes(part), Mode::from_raw_mode(0o700)) {
                Ok(()) => {
                    let level = self.hold(part, 0o755, FileTime::default())?;
                    self.levels.push(level);
                }
                Err(Errno::EXIST) => {
                    let mut level = self.hold(part, 0o755, FileTime::default())?;
                    let stat: Stat = fstat(&level.directory).context("cannot look at it")?;
                    (level.mode, level.modified) = (stat.st_mode & 0o777, FileTime::of(&stat));
                    // It may have been closed for good already.
                    let _ = fchmod(&level.directory, Mode::from_raw_mode(0o700));
                    self.levels.push(level);
                }
                Err(errno) => return Err(said(errno, "make the directory", part)),
            }
        }
        Ok(())
    }

    /// What the innermost directory gets when the stream leaves it.
    pub fn set_innermost(&mut self, mode: u32, modified: FileTime) {
        let mode = mode & !self.umask;
        if let Some(level) = self.levels.last_mut() {
            (level.mode, level.modified) = (mode, modified);
        }
    }

    /// Takes away what is in the way of an entry in the innermost directory, if it is no directory.
    pub fn clear(&self, leaf: &OsStr) {
        let _ = unlinkat(self.innermost(), leaf, AtFlags::empty());
    }

    /// Makes another name for a file of this tree.
    ///
    /// # Errors
    /// The file system's.
    pub fn hard_link(&mut self, name: &EntryName, target: &EntryName) -> Result<()> {
        let (from, source) =
            target.split().ok_or(ArchiveError::Malformed("the target of a link"))?;
        let mut directory = self.levels[0].directory.try_clone().context("cannot go on")?;
        for part in from {
            directory = openat(&directory, OsStr::from_bytes(part), OPEN_DIRECTORY, Mode::empty())
                .map_err(|errno| said(errno, "find the directory", part))?;
        }
        let (_, leaf) = name.split().ok_or(ArchiveError::Malformed("the name of a link"))?;
        linkat(&directory, source, self.innermost(), leaf, AtFlags::empty())
            .map_err(|errno| said(errno, "link", leaf.as_bytes()))
    }

    /// Makes a file of the pieces of `content` that go to these offsets and have these lengths, or end
    /// with it. What is between them is a hole.
    ///
    /// # Errors
    /// The file system's, and those of `content`.
    pub fn write(
        &mut self,
        entry: &TarEntry,
        content: &mut dyn Read,
        pieces: &[(u64, u64)],
    ) -> Result<()> {
        let leaf = self.place_of(&entry.name)?;
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = openat(self.innermost(), leaf, flags, Mode::from_raw_mode(0o600))
            .map_err(|errno| refused(errno, "create", entry))?;
        let mut file = File::from(file);
        let written = || format!("cannot write {}", shown(&entry.name));
        for &(offset, length) in pieces {
            if offset > 0 {
                file.seek(SeekFrom::Start(offset)).with_context(written)?;
            }
            let mut piece = content.take(length);
            loop {
                let count = match piece.read(&mut self.chunk) {
                    Ok(0) => break,
                    Ok(count) => count,
                    Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                    Err(error) => return Err(error).context("cannot read the stream"),
                };
                file.write_all(&self.chunk[..count]).with_context(written)?;
            }
        }
        let end = pieces.last().map_or(0, |&(offset, length)| offset + length);
        if let EntryKind::File { size } = entry.kind
            && end < size
        {
            file.set_len(size).with_context(written)?;
        }
        fchmod(&file, Mode::from_raw_mode(entry.mode & !self.umask))
            .and_then(|()| futimens(&file, &entry.modified.stamps()))
            .map_err(|errno| refused(errno, "set mode and time of", entry))
    }

    fn innermost(&self) -> BorrowedFd<'_> {
        self.levels.last().map_or(self.top.as_fd(), |level| level.directory.as_fd())
    }

    /// Where an entry is made, and as what. Its directory is one of those that are open: the order of a
    /// stream was checked, and an archive in no order was led there.
    fn place_of<'n>(&mut self, name: &'n EntryName) -> Result<&'n OsStr> {
        match name.split() {
            None => Ok(OsStr::new(CONTENT)),
            Some((parent, leaf)) => {
                self.close_to(parent.len() + 1)?;
                let open = self.levels.iter().skip(1).map(|level| &level.part);
                if self.levels.is_empty() || !open.eq(parent) {
                    return Err(ArchiveError::Order(name.to_bytes()).into());
                }
                Ok(leaf)
            }
        }
    }

    fn hold(&self, part: &[u8], mode: u32, modified: FileTime) -> Result<Level> {
        let directory =
            openat(self.innermost(), OsStr::from_bytes(part), OPEN_DIRECTORY, Mode::empty())
                .map_err(|errno| said(errno, "open the directory", part))?;
        Ok(Level { part: part.to_vec(), directory, mode: mode & !self.umask, modified })
    }

    /// Leaves all directories but the outer `count`.
    fn close_to(&mut self, count: usize) -> Result<()> {
        while self.levels.len() > count {
            let Some(level) = self.levels.pop() else { break };
            fchmod(&level.directory, Mode::from_raw_mode(level.mode))
                .and_then(|()| futimens(&level.directory, &level.modified.stamps()))
                .map_err(|errno| said(errno, "set mode and time of", &level.part))?;
        }
        Ok(())
    }
}

impl EntrySink for TreeBuilder {
    fn directory(&mut self, entry: &TarEntry) -> Result<()> {
        let leaf = self.place_of(&entry.name)?;
        mkdirat(self.innermost(), leaf, Mode::from_raw_mode(0o700))
            .map_err(|errno| refused(errno, "make the directory", entry))?;
        let mut level = self.hold(leaf.as_bytes(), entry.mode, entry.modified)?;
        if entry.name.is_root() {
            level.part = Vec::new();
        }
        self.levels.push(level);
        Ok(())
    }

    fn file(&mut self, entry: &TarEntry, content: &mut dyn Read) -> Result<()> {
        self.write(entry, content, &[(0, u64::MAX)])
    }

    fn link(&mut self, entry: &TarEntry, target: &[u8]) -> Result<bool> {
        if !self.links {
            return Ok(false);
        }
        let leaf = self.place_of(&entry.name)?;
        let here = self.innermost();
        symlinkat(OsStr::from_bytes(target), here, leaf)
            .and_then(|()| {
                utimensat(here, leaf, &entry.modified.stamps(), AtFlags::SYMLINK_NOFOLLOW)
            })
            .map_err(|errno| refused(errno, "make the link", entry))?;
        Ok(true)
    }
}

/// A name in a sentence.
pub fn shown(name: &EntryName) -> String {
    if name.is_root() {
        return "it".into();
    }
    format!("{:?}", OsStr::from_bytes(&name.to_bytes()))
}

fn said(errno: Errno, what: &str, part: &[u8]) -> anyhow::Error {
    let shown = OsStr::from_bytes(part);
    anyhow::Error::new(std::io::Error::from(errno)).context(format!("cannot {what} {shown:?}"))
}

/// Why an entry could not be made. What exists already was made by the same stream.
fn refused(errno: Errno, what: &str, entry: &TarEntry) -> anyhow::Error {
    match errno {
        Errno::EXIST => ArchiveError::Twice(entry.name.to_bytes()).into(),
        _ => anyhow::Error::new(std::io::Error::from(errno))
            .context(format!("cannot {what} {}", shown(&entry.name))),
    }
}
