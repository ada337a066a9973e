//! Writing a tree of files as an EROFS file system, which a Linux guest mounts without reading it.
//!
//! The format is described in the kernel's `Documentation/filesystems/erofs.rst` and `fs/erofs/erofs_fs.h`. Of what
//! it allows, an image has only the simplest: nothing is compressed or shared, and each file begins in a block of its
//! own. So it can be written in one pass, with what describes the files at the end:
//!
//! ```text
//! superblock │ contents of files and links, as they come │ directories │ inodes
//! ```

mod layout;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;

use self::layout::{BLOCK, FileType, INODE, Inode};
use super::entry::{EntryKind, TarEntry};
use super::entry_output::{EntryOutput, read_content};
use super::tally::CopyObserver;

/// Bytes written at a time.
const BUFFER: usize = 1 << 20;

/// The smallest part of zeros that becomes a hole.
const HOLE: usize = 1 << 16;

/// An image that is being written to a file, which contains only zeros before.
pub struct ErofsImage<'a> {
    file: &'a File,
    /// How large it may become.
    limit: u64,
    /// Called before each write; its error ends the work.
    check: &'a dyn Fn() -> io::Result<()>,
    buffer: Vec<u8>,
    /// Where in the file the buffer begins.
    start: u64,
    /// The root first.
    inodes: Vec<Inode>,
    /// The entries of each directory, which is an index of `inodes`.
    entries: HashMap<usize, Vec<DirectoryEntry>>,
    /// The directories by their paths.
    directories: HashMap<Vec<u8>, usize>,
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct DirectoryEntry {
    name: Vec<u8>,
    inode: usize,
    file_type: FileType,
}

impl<'a> ErofsImage<'a> {
    /// `file` must contain only zeros. `check` is called now and then, and its error ends the work.
    pub fn new(file: &'a File, limit: u64, check: &'a dyn Fn() -> io::Result<()>) -> Self {
        ErofsImage {
            file,
            limit,
            check,
            buffer: Vec::with_capacity(BUFFER),
            // The first block is the superblock's.
            start: BLOCK as u64,
            inodes: Vec::new(),
            entries: HashMap::new(),
            directories: HashMap::new(),
        }
    }

    /// Writes what describes the files. Without this the file is not a file system.
    ///
    /// # Errors
    /// Those of the file; `InvalidData` if the root is no directory, or an entry came twice.
    pub fn finish(mut self) -> io::Result<()> {
        let Some(0) = self.directories.get(&b"."[..]).copied() else {
            return Err(invalid("the root is not a directory"));
        };
        let mut parents = vec![0; self.inodes.len()];
        for (&directory, entries) in &self.entries {
            for entry in entries {
                parents[entry.inode] = directory;
            }
        }
        for (index, parent) in parents.into_iter().enumerate() {
            let Some(mut entries) = self.entries.remove(&index) else { continue };
            let here = [(&b"."[..], index), (&b".."[..], parent)];
            entries.extend(here.map(|(name, inode)| DirectoryEntry {
                name: name.to_vec(),
                inode,
                file_type: FileType::Directory,
            }));
            entries.sort_unstable();
            if entries.windows(2).any(|two| two[0].name == two[1].name) {
                return Err(invalid("an entry comes twice"));
            }
            let named = entries.iter().map(|entry| (&*entry.name, entry.inode, entry.file_type));
            let content = layout::directory(named);
            self.inodes[index].block = self.block()?;
            self.inodes[index].size = content.len() as u64;
            self.push(&content)?;
            self.pad();
        }
        let inodes_at = self.block()?;
        self.push(&[0; INODE])?;
        for index in 0..self.inodes.len() {
            let inode = self.inodes[index].encode(index);
            self.push(&inode)?;
        }
        self.pad();
        let blocks = self.block()?;
        self.flush()?;
        let superblock = layout::superblock(self.inodes.len() as u64, blocks, inodes_at);
        self.file.write_all_at(&superblock, layout::SUPERBLOCK_AT)
    }

    /// Adds an inode, and its name to its directory.
    fn add(&mut self, entry: &TarEntry, file_type: FileType, size: u64) -> io::Result<usize> {
        let index = self.inodes.len();
        if let Some((parent, name)) = entry.name.split() {
            let path = if parent.is_empty() { b".".to_vec() } else { parent.join(&b'/') };
            let of =
                *self.directories.get(&path).ok_or_else(|| invalid("its directory is missing"))?;
            let name = name.as_bytes().to_vec();
            self.entries.entry(of).or_default().push(DirectoryEntry {
                name,
                inode: index,
                file_type,
            });
            if file_type == FileType::Directory {
                self.inodes[of].links += 1;
            }
        } else if index != 0 {
            return Err(invalid("the root comes twice"));
        }
        let links = if file_type == FileType::Directory { 2 } else { 1 };
        let (mode, modified) = (entry.mode, entry.modified);
        let block = self.block()?;
        self.inodes.push(Inode { file_type, mode, size, block, links, modified });
        Ok(index)
    }

    /// The block in which what is written next begins.
    fn block(&self) -> io::Result<u32> {
        u32::try_from((self.start + self.buffer.len() as u64) / BLOCK as u64)
            .map_err(|_| ErrorKind::FileTooLarge.into())
    }

    fn push(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let count = bytes.len().min(self.room()?);
            self.buffer.extend_from_slice(&bytes[..count]);
            bytes = &bytes[count..];
        }
        Ok(())
    }

    /// Fills the last block with zeros.
    fn pad(&mut self) {
        self.buffer.resize(self.buffer.len().next_multiple_of(BLOCK), 0);
    }

    /// How many bytes fit into the buffer: more than none.
    fn room(&mut self) -> io::Result<usize> {
        if self.buffer.len() == BUFFER {
            self.flush()?;
        }
        Ok(BUFFER - self.buffer.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        (self.check)()?;
        let length = self.buffer.len() as u64;
        if self.start + length > self.limit {
            return Err(ErrorKind::FileTooLarge.into());
        }
        let mut at = self.start;
        for part in self.buffer.chunks(HOLE) {
            if part.iter().any(|byte| *byte != 0) {
                self.file.write_all_at(part, at)?;
            }
            at += part.len() as u64;
        }
        self.start += length;
        self.buffer.clear();
        Ok(())
    }
}

impl EntryOutput for ErofsImage<'_> {
    fn entry(&mut self, entry: &TarEntry) -> io::Result<()> {
        match &entry.kind {
            EntryKind::Directory => {
                let index = self.add(entry, FileType::Directory, 0)?;
                self.entries.insert(index, Vec::new());
                self.directories.insert(entry.name.to_bytes(), index);
                Ok(())
            }
            EntryKind::Link { target } => {
                self.add(entry, FileType::Link, target.len() as u64)?;
                self.push(target)?;
                self.pad();
                Ok(())
            }
            EntryKind::File { .. } => Err(invalid("a file has content")),
            EntryKind::Special => Ok(()),
        }
    }

    fn file(
        &mut self,
        entry: &TarEntry,
        content: &mut dyn Read,
        watch: &dyn CopyObserver,
    ) -> io::Result<()> {
        let EntryKind::File { size } = entry.kind else {
            return Err(invalid("only a file has content"));
        };
        if size > self.limit - self.start {
            return Err(ErrorKind::FileTooLarge.into());
        }
        self.add(entry, FileType::Regular, size)?;
        let mut left = size;
        while left > 0 {
            let room = self.room()?.min(usize::try_from(left).unwrap_or(usize::MAX));
            let filled = self.buffer.len();
            self.buffer.resize(filled + room, 0);
            let read = read_content(content, &mut self.buffer[filled..], left);
            self.buffer.truncate(filled + read.as_ref().map_or(0, |count| *count));
            let count = read? as u64;
            left -= count;
            watch.moved(count);
        }
        self.pad();
        Ok(())
    }
}

fn invalid(why: &'static str) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, why)
}
