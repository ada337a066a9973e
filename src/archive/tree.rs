//! Creating a tree of files, entry by entry, each in the directory that is held open.

use std::ffi::OsStr;
use std::fs::File;
use std::io::Read;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;

use anyhow::{Context, Result};
use rustix::fs::{
    AtFlags, Mode, OFlags, Stat, fchmod, fstat, futimens, linkat, mkdirat, openat, symlinkat,
    unlinkat, utimensat,
};
use rustix::io::Errno;

use super::broken::ArchiveError;
use super::entry::{EntryKind, FileTime, TarEntry};
use super::name::EntryName;
use super::receive::EntrySink;
use crate::sys::directory_cursor::DirectoryCursor;
use crate::sys::file_system::OPEN_DIRECTORY;

/// The name of the root in the staging directory. [`super::leftovers`] recognizes such directories by it.
pub const CONTENT: &str = "mayfly-cp-content";

/// Bytes moved at a time.
const CHUNK: usize = 128 * 1024;

/// The size of the blocks that become holes if they contain only zeros.
const HOLE: usize = 4096;

/// What is kept of the entries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UnpackRules {
    /// Permissions that no entry gets.
    pub umask: u32,
    /// Whether symbolic links are kept.
    pub links: bool,
}

/// A tree that is being created at [`CONTENT`].
#[derive(Debug)]
pub struct TreeBuilder {
    /// Where the root is created.
    top: OwnedFd,
    /// The directory that the stream is in. The walk to it began at `top`.
    cursor: DirectoryCursor,
    umask: u32,
    links: bool,
    /// The directories from the root to the one that the stream is in.
    levels: Vec<Level>,
    chunk: Box<[u8]>,
}

#[derive(Debug)]
struct Level {
    /// Mode and time of a directory, set when it is left.
    mode: u32,
    modified: FileTime,
}

impl TreeBuilder {
    /// A tree in the empty directory `top`.
    pub fn new(top: OwnedFd, rules: UnpackRules) -> Result<TreeBuilder> {
        let UnpackRules { umask, links } = rules;
        let begin = top.try_clone().context("cannot hold the new directory")?;
        let cursor = DirectoryCursor::at(begin).context("cannot look at the new directory")?;
        let chunk = vec![0; CHUNK].into();
        Ok(TreeBuilder { top, cursor, umask, links, levels: Vec::new(), chunk })
    }

    /// Completes the tree: sets mode and time of the directories that are still open.
    pub fn finish(&mut self) -> Result<()> {
        self.close_to(0)
    }

    /// Creates the root as a directory, for archives that do not contain it.
    pub fn make_root(&mut self) -> Result<()> {
        let entry = TarEntry {
            name: EntryName::root(),
            kind: EntryKind::Directory,
            mode: 0o755,
            modified: FileTime::default(),
        };
        self.directory(&entry)
    }

    /// Enters the directory of this name, for archives in any order. Missing directories are created, and
    /// links are not followed.
    pub fn enter(&mut self, parts: &[Vec<u8>]) -> Result<()> {
        let same = self.open_parts().zip(parts).take_while(|(open, part)| open == part).count();
        self.close_to(same + 1)?;
        for part in &parts[same..] {
            let mode = Mode::from_raw_mode(0o700);
            let created = mkdirat(self.innermost(), OsStr::from_bytes(part), mode);
            if let Err(errno) = created
                && errno != Errno::EXIST
            {
                return Err(name_error(errno, "create the directory", part));
            }
            self.hold(part, 0o755, FileTime::default())?;
            if created.is_err() {
                let stat: Stat = fstat(self.innermost()).context("cannot look at it")?;
                // It may have been left before, and have its final mode.
                let _ = fchmod(self.innermost(), mode);
                self.set_innermost(stat.st_mode & 0o777, FileTime::of(&stat));
            }
        }
        Ok(())
    }

    /// Sets mode and time that the innermost directory gets when it is left.
    pub fn set_innermost(&mut self, mode: u32, modified: FileTime) {
        let mode = mode & !self.umask;
        if let Some(level) = self.levels.last_mut() {
            (level.mode, level.modified) = (mode, modified);
        }
    }

    /// Deletes an entry of the innermost directory, unless it is a directory.
    pub fn clear(&self, leaf: &OsStr) {
        let _ = unlinkat(self.innermost(), leaf, AtFlags::empty());
    }

    /// Creates a hard link to a file of this tree.
    pub fn hard_link(&mut self, name: &EntryName, target: &EntryName) -> Result<()> {
        let (from, source) =
            target.split().ok_or(ArchiveError::Malformed("the target of a link"))?;
        let mut directory = openat(&self.top, CONTENT, OPEN_DIRECTORY, Mode::empty())
            .context("cannot open the new directory")?;
        for part in from {
            directory = openat(&directory, OsStr::from_bytes(part), OPEN_DIRECTORY, Mode::empty())
                .map_err(|errno| name_error(errno, "find the directory", part))?;
        }
        let (_, leaf) = name.split().ok_or(ArchiveError::Malformed("the name of a link"))?;
        linkat(&directory, source, self.innermost(), leaf, AtFlags::empty())
            .map_err(|errno| name_error(errno, "link", leaf.as_bytes()))
    }

    /// Creates a file. `content` is its pieces, one after another, given by offset and length; the last one
    /// may end early. What is between the pieces becomes a hole, and so do zeros.
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
        let file = File::from(file);
        let written = || format!("cannot write {}", shown(&entry.name));
        // Where the next byte belongs, and where the last one that was written ends.
        let (mut position, mut end) = (0, 0);
        for &(offset, length) in pieces {
            position = offset;
            let mut piece = content.take(length);
            loop {
                let count = match piece.read(&mut self.chunk) {
                    Ok(0) => break,
                    Ok(count) => count,
                    Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                    Err(error) => return Err(error).context("cannot read the stream"),
                };
                let start = position;
                let blocks: Vec<&[u8]> = self.chunk[..count].chunks(HOLE).collect();
                for run in blocks.chunk_by(|one, next| is_zero(one) == is_zero(next)) {
                    let length: usize = run.iter().map(|block| block.len()).sum();
                    if !is_zero(run[0]) {
                        let from = (position - start) as usize;
                        file.write_all_at(&self.chunk[from..][..length], position)
                            .with_context(written)?;
                        end = position + length as u64;
                    }
                    position += length as u64;
                }
            }
        }
        let size = if let EntryKind::File { size } = entry.kind { size } else { 0 };
        if end < size.max(position) {
            file.set_len(size.max(position)).with_context(written)?;
        }
        fchmod(&file, Mode::from_raw_mode(entry.mode & !self.umask))
            .and_then(|()| futimens(&file, &entry.modified.stamps()))
            .map_err(|errno| refused(errno, "set mode and time of", entry))
    }

    fn innermost(&self) -> BorrowedFd<'_> {
        self.cursor.here()
    }

    /// The names of the directories that are entered below the root.
    fn open_parts(&self) -> impl Iterator<Item = &[u8]> {
        self.cursor.names().skip(1).map(OsStrExt::as_bytes)
    }

    /// The name under which an entry is created in the innermost directory, after leaving those that it
    /// is not in.
    fn place_of<'n>(&mut self, name: &'n EntryName) -> Result<&'n OsStr> {
        match name.split() {
            None => Ok(OsStr::new(CONTENT)),
            Some((parent, leaf)) => {
                self.close_to(parent.len() + 1)?;
                if self.levels.is_empty() || !self.open_parts().eq(parent) {
                    return Err(ArchiveError::Order(name.to_bytes()).into());
                }
                Ok(leaf)
            }
        }
    }

    /// Enters a directory of the innermost one.
    fn hold(&mut self, part: &[u8], mode: u32, modified: FileTime) -> Result<()> {
        let name = OsStr::from_bytes(part);
        openat(self.innermost(), name, OPEN_DIRECTORY, Mode::empty())
            .and_then(|directory| self.cursor.enter(name, directory))
            .map_err(|errno| name_error(errno, "open the directory", part))?;
        self.levels.push(Level { mode: mode & !self.umask, modified });
        Ok(())
    }

    /// Leaves all directories but the outermost `count`.
    fn close_to(&mut self, count: usize) -> Result<()> {
        while self.levels.len() > count {
            let Some(level) = self.levels.pop() else { break };
            let (directory, name) = self.cursor.leave().context("cannot leave a directory")?;
            fchmod(&directory, Mode::from_raw_mode(level.mode))
                .and_then(|()| futimens(&directory, &level.modified.stamps()))
                .map_err(|errno| name_error(errno, "set mode and time of", name.as_bytes()))?;
        }
        Ok(())
    }
}

impl EntrySink for TreeBuilder {
    fn directory(&mut self, entry: &TarEntry) -> Result<()> {
        let leaf = self.place_of(&entry.name)?;
        mkdirat(self.innermost(), leaf, Mode::from_raw_mode(0o700))
            .map_err(|errno| refused(errno, "create the directory", entry))?;
        self.hold(leaf.as_bytes(), entry.mode, entry.modified)
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
            .map_err(|errno| refused(errno, "create the link", entry))?;
        Ok(true)
    }
}

fn is_zero(block: &[u8]) -> bool {
    *block == [0; HOLE][..block.len()]
}

/// A name in a message.
pub fn shown(name: &EntryName) -> String {
    if name.is_root() {
        return "it".into();
    }
    format!("{:?}", OsStr::from_bytes(&name.to_bytes()))
}

fn name_error(errno: Errno, what: &str, part: &[u8]) -> anyhow::Error {
    let shown = OsStr::from_bytes(part);
    anyhow::Error::new(errno).context(format!("cannot {what} {shown:?}"))
}

/// Why an entry could not be created. An existing one came from the same stream.
fn refused(errno: Errno, what: &str, entry: &TarEntry) -> anyhow::Error {
    match errno {
        Errno::EXIST => ArchiveError::Twice(entry.name.to_bytes()).into(),
        _ => anyhow::Error::new(errno).context(format!("cannot {what} {}", shown(&entry.name))),
    }
}
