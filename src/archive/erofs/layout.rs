//! The parts of an EROFS image, byte for byte. All numbers are little-endian.

use crate::archive::entry::FileTime;

/// The size of blocks, which must be that of the guest's pages.
pub const BLOCK: usize = 1 << BLOCK_BITS;
const BLOCK_BITS: u8 = 12;

/// Where the superblock is.
pub const SUPERBLOCK_AT: u64 = 1024;

const MAGIC: u32 = 0xe0f5_e1e2;

/// `EROFS_FEATURE_COMPAT_MTIME`: the times of inodes are those of modification.
const TIMES_OF_MODIFICATION: u32 = 2;

/// The size of an inode in the larger of two forms, which has nanoseconds. The number of an inode counts
/// [`SLOT`]s.
pub const INODE: usize = 64;
const SLOT: usize = 32;

/// The larger form, and contents in blocks of their own that follow each other.
const EXTENDED_AND_PLAIN: u16 = 1;

/// The size of an entry of a directory, without its name.
const ENTRY: usize = 12;

/// The kind of a file, by its number in directories.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum FileType {
    Regular = 1,
    Directory = 2,
    Link = 7,
}

/// What describes a file. It belongs to root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inode {
    pub file_type: FileType,
    /// Permission bits.
    pub mode: u32,
    /// Bytes of content.
    pub size: u64,
    /// The block in which the content begins.
    pub block: u32,
    pub links: u32,
    pub modified: FileTime,
}

impl Inode {
    /// `index` is its place among all inodes.
    pub fn encode(&self, index: usize) -> [u8; INODE] {
        let kind: u32 = match self.file_type {
            FileType::Regular => 0o100_000,
            FileType::Directory => 0o040_000,
            FileType::Link => 0o120_000,
        };
        let mut fields = Fields([0; INODE]);
        fields.put(0, EXTENDED_AND_PLAIN.to_le_bytes());
        fields.put(4, ((kind | self.mode) as u16).to_le_bytes());
        fields.put(8, self.size.to_le_bytes());
        fields.put(16, self.block.to_le_bytes());
        fields.put(20, (index as u32 + 1).to_le_bytes());
        // User and group, at 24 and 28, are 0.
        fields.put(32, self.modified.seconds.to_le_bytes());
        fields.put(40, self.modified.nanoseconds.to_le_bytes());
        fields.put(44, self.links.to_le_bytes());
        fields.0
    }
}

/// The number of an inode. The first slots are left out, because no file has the number 0.
fn number(index: usize) -> u64 {
    ((index + 1) * INODE / SLOT) as u64
}

/// The superblock of an image with this many inodes and blocks, whose inodes begin in block `inodes_at`.
pub fn superblock(inodes: u64, blocks: u32, inodes_at: u32) -> [u8; 128] {
    let mut fields = Fields([0; 128]);
    fields.put(0, MAGIC.to_le_bytes());
    fields.put(8, TIMES_OF_MODIFICATION.to_le_bytes());
    fields.put(12, [BLOCK_BITS]);
    fields.put(14, (number(0) as u16).to_le_bytes());
    fields.put(16, inodes.to_le_bytes());
    fields.put(36, blocks.to_le_bytes());
    fields.put(40, inodes_at.to_le_bytes());
    fields.0
}

/// The content of a directory: names, indexes of inodes and kinds, sorted by name. Each block has as many as
/// fit, followed by their names.
pub fn directory<'a>(entries: impl Iterator<Item = (&'a [u8], usize, FileType)>) -> Vec<u8> {
    let (mut content, mut block, mut length) = (Vec::new(), Vec::new(), 0);
    for entry in entries {
        let added = ENTRY + entry.0.len();
        if length + added > BLOCK {
            push_block(&mut content, &block);
            content.resize(content.len().next_multiple_of(BLOCK), 0);
            block.clear();
            length = 0;
        }
        block.push(entry);
        length += added;
    }
    push_block(&mut content, &block);
    content
}

fn push_block(content: &mut Vec<u8>, entries: &[(&[u8], usize, FileType)]) {
    let mut name_at = entries.len() * ENTRY;
    for (name, index, file_type) in entries {
        content.extend(number(*index).to_le_bytes());
        content.extend((name_at as u16).to_le_bytes());
        content.extend([*file_type as u8, 0]);
        name_at += name.len();
    }
    entries.iter().for_each(|(name, ..)| content.extend_from_slice(name));
}

/// Bytes with fields at fixed places.
struct Fields<const SIZE: usize>([u8; SIZE]);

impl<const SIZE: usize> Fields<SIZE> {
    fn put<const WIDTH: usize>(&mut self, at: usize, value: [u8; WIDTH]) {
        self.0[at..at + WIDTH].copy_from_slice(&value);
    }
}
