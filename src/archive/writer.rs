//! Writing a stream in pax format, which preserves names and times.

use std::io::{self, Read, Write};

use tar::{EntryType, Header};

use super::entry::{EntryKind, FileTime, TarEntry};
use super::entry_output::{EntryOutput, read_content};
use super::pax;
use super::tally::CopyObserver;

/// The size of the blocks of a tar archive.
pub const BLOCK: usize = 512;

/// Bytes written at a time: twice what the agent's pipes hold.
const BUFFER: usize = 128 * 1024;

/// The longest name that fits into a header.
const SHORT_NAME: usize = 100;

/// Writes entries. Without [`ArchiveWriter::finish`] the stream is incomplete, and its reader refuses it.
#[derive(Debug)]
pub struct ArchiveWriter<W: Write> {
    out: W,
    buffer: Box<[u8]>,
    filled: usize,
}

impl<W: Write> ArchiveWriter<W> {
    pub fn new(out: W) -> ArchiveWriter<W> {
        ArchiveWriter { out, buffer: vec![0; BUFFER].into(), filled: 0 }
    }

    /// Announces the number of bytes in files, for progress bars. It comes first.
    pub fn announce(&mut self, bytes: u64) -> io::Result<()> {
        let mut records = Vec::new();
        pax::push(&mut records, pax::TOTAL, bytes.to_string().as_bytes());
        self.extension(EntryType::XGlobalHeader, &records)
    }

    /// Ends the stream, and returns what it was written to.
    pub fn finish(mut self) -> io::Result<W> {
        self.push(&[0; 2 * BLOCK])?;
        self.flush()?;
        self.out.flush()?;
        Ok(self.out)
    }

    /// The number of bytes that an entry takes in addition to its content.
    pub fn overhead(entry: &TarEntry) -> u64 {
        let block = BLOCK as u64;
        let (_, records) = Self::described(entry);
        let extension = match records.len() as u64 {
            0 => 0,
            length => block + length.next_multiple_of(block),
        };
        let size = if let EntryKind::File { size } = entry.kind { size } else { 0 };
        block + extension + (block - size % block) % block
    }

    fn header(&mut self, entry: &TarEntry) -> io::Result<()> {
        let (header, records) = Self::described(entry);
        if !records.is_empty() {
            self.extension(EntryType::XHeader, &records)?;
        }
        self.push(header.as_bytes())
    }

    /// The header of an entry, and the records of its extended header.
    fn described(entry: &TarEntry) -> (Header, Vec<u8>) {
        let (kind, size) = match &entry.kind {
            EntryKind::Directory => (EntryType::Directory, 0),
            EntryKind::File { size } => (EntryType::Regular, *size),
            EntryKind::Link { .. } => (EntryType::Symlink, 0),
            EntryKind::Special => (EntryType::Fifo, 0),
        };
        let mut records = Vec::new();
        let mut header = Header::new_ustar();
        let fields = header.as_ustar_mut().expect("it was made as one");
        let name = entry.name.to_bytes();
        // The names of directories end in a slash.
        let name = if kind == EntryType::Directory { [&name[..], b"/"].concat() } else { name };
        put(&mut fields.name, b"path", &name, &mut records);
        if let EntryKind::Link { target } = &entry.kind {
            put(&mut fields.linkname, b"linkpath", target, &mut records);
        }
        let FileTime { seconds, nanoseconds } = entry.modified;
        if nanoseconds != 0 || seconds < 0 {
            pax::push(&mut records, b"mtime", pax::write_time(entry.modified).as_bytes());
        }
        header.set_entry_type(kind);
        header.set_mode(entry.mode);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(u64::try_from(seconds).unwrap_or(0));
        header.set_size(size);
        header.set_cksum();
        (header, records)
    }

    fn extension(&mut self, kind: EntryType, records: &[u8]) -> io::Result<()> {
        let mut header = Header::new_ustar();
        let name = b"././@PaxHeader";
        header.as_ustar_mut().expect("it was made as one").name[..name.len()].copy_from_slice(name);
        header.set_entry_type(kind);
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header.set_size(records.len() as u64);
        header.set_cksum();
        self.push(header.as_bytes())?;
        self.push(records)?;
        self.pad(records.len() as u64)
    }

    /// Fills the last block of content of this size with zeros.
    fn pad(&mut self, size: u64) -> io::Result<()> {
        let over = (size % BLOCK as u64) as usize;
        if over == 0 { Ok(()) } else { self.push(&[0; BLOCK][over..]) }
    }

    fn push(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            if self.filled == BUFFER {
                self.flush()?;
            }
            let count = bytes.len().min(BUFFER - self.filled);
            self.buffer[self.filled..self.filled + count].copy_from_slice(&bytes[..count]);
            self.filled += count;
            bytes = &bytes[count..];
        }
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.write_all(&self.buffer[..self.filled])?;
        self.filled = 0;
        Ok(())
    }
}

impl<W: Write> EntryOutput for ArchiveWriter<W> {
    fn entry(&mut self, entry: &TarEntry) -> io::Result<()> {
        debug_assert!(!matches!(entry.kind, EntryKind::File { .. }), "a file has content");
        self.header(entry)
    }

    fn file(
        &mut self,
        entry: &TarEntry,
        content: &mut dyn Read,
        watch: &dyn CopyObserver,
    ) -> io::Result<()> {
        let EntryKind::File { size } = entry.kind else { unreachable!("only a file has content") };
        self.header(entry)?;
        let mut left = size;
        while left > 0 {
            if self.filled == BUFFER {
                self.flush()?;
            }
            let count = read_content(content, &mut self.buffer[self.filled..], left)?;
            self.filled += count;
            left -= count as u64;
            watch.moved(count as u64);
        }
        self.pad(size)
    }
}

/// Writes a name into its field. One that does not fit is cut off there, and goes into a record.
fn put(field: &mut [u8; SHORT_NAME], key: &[u8], name: &[u8], records: &mut Vec<u8>) {
    let count = name.len().min(SHORT_NAME);
    field[..count].copy_from_slice(&name[..count]);
    if count < name.len() {
        pax::push(records, key, name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::archive::EntryName;

    #[test]
    fn the_overhead_of_an_entry_is_known_before_it_is_written() {
        let end = 2 * BLOCK as u64;
        for (name, size, nanoseconds) in [
            ("x", 0, 0),
            ("x", 1, 0),
            ("x", 511, 5),
            ("x", 512, 0),
            (&*"long".repeat(60), 513, 7),
            (&*"d/".repeat(250), 0, 0),
        ] {
            let name = EntryName::parse(name.as_bytes()).unwrap();
            let modified = FileTime { seconds: 1, nanoseconds };
            let entry = TarEntry { name, kind: EntryKind::File { size }, mode: 0o644, modified };
            let mut writer = ArchiveWriter::new(Vec::new());
            writer.file(&entry, &mut io::repeat(7), &()).unwrap();
            let written = writer.finish().unwrap().len() as u64;
            assert_eq!(
                ArchiveWriter::<Vec<u8>>::overhead(&entry) + size + end,
                written,
                "{entry:?}"
            );
        }
    }
}
