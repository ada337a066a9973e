//! Reading a stream that may come from a hostile guest.
//!
//! It accepts what [`ArchiveWriter`](super::ArchiveWriter) writes and nothing else that tar allows: no hard
//! links, sparse files, sizes in extended headers, GNU long names or volumes. The `tar` crate knows the fields
//! of a header; reading from one header to the next is done here, so that each length is compared with a
//! limit first.

use std::io::{self, Read};

use anyhow::{Context, Result};
use tar::{EntryType, Header};

use super::broken::ArchiveError;
use super::entry::{EntryKind, FileTime, TarEntry};
use super::name::EntryName;
use super::pax;
use super::writer::BLOCK;
use crate::sys::file_system::PATH_MAX;

/// How many zeros may follow the end: some programs fill whole records.
const MAX_TAIL: u64 = 1 << 20;

/// Reads entries. [`ArchiveReader::content`] must be read to its end before the next entry.
#[derive(Debug)]
pub struct ArchiveReader<R> {
    input: R,
    /// Bytes of the current file that are not read yet.
    left: u64,
    /// Bytes after them, to the end of the block.
    padding: usize,
    begun: bool,
    total: Option<u64>,
}

/// The extended header of the next entry.
#[derive(Default)]
struct Extension {
    path: Option<Vec<u8>>,
    target: Option<Vec<u8>>,
    modified: Option<FileTime>,
}

impl<R: Read> ArchiveReader<R> {
    /// `input` should be buffered: headers are small.
    pub fn new(input: R) -> ArchiveReader<R> {
        ArchiveReader { input, left: 0, padding: 0, begun: false, total: None }
    }

    /// The number of bytes in files, if the sender announced it. It is not verified.
    pub fn total(&self) -> Option<u64> {
        self.total
    }

    /// The next entry; `None` at the end of a complete stream.
    ///
    /// # Errors
    /// [`ArchiveError`], and those of reading.
    pub fn next_entry(&mut self) -> Result<Option<TarEntry>> {
        assert_eq!(self.left, 0, "the content of a file comes before the next entry");
        self.skip_padding()?;
        let mut extension = None;
        loop {
            let Some(header) = self.header()? else {
                if extension.is_some() {
                    return Err(ArchiveError::Malformed("an extended header").into());
                }
                self.tail()?;
                return Ok(None);
            };
            let first = !std::mem::replace(&mut self.begun, true);
            match header.entry_type() {
                EntryType::XHeader if extension.is_none() => {
                    extension = Some(self.extension(&header)?);
                }
                EntryType::XGlobalHeader if first => self.announcement(&header)?,
                _ => return self.entry(&header, extension.unwrap_or_default()).map(Some),
            }
        }
    }

    /// The content of the current file.
    pub fn content(&mut self) -> EntryContent<'_, R> {
        EntryContent(self)
    }

    fn entry(&mut self, header: &Header, extension: Extension) -> Result<TarEntry> {
        let path = extension.path.unwrap_or_else(|| header.path_bytes().into_owned());
        let code = header.as_bytes()[156];
        let size = header.entry_size().map_err(|_| ArchiveError::Malformed("a size"))?;
        let kind = match EntryType::new(code) {
            EntryType::Regular => EntryKind::File { size },
            EntryType::Directory => EntryKind::Directory,
            EntryType::Symlink => {
                let own = || header.link_name_bytes().unwrap_or_default().into_owned();
                EntryKind::Link { target: checked_target(extension.target.unwrap_or_else(own))? }
            }
            EntryType::Fifo | EntryType::Char | EntryType::Block => EntryKind::Special,
            _ => return Err(ArchiveError::kind(&path, code).into()),
        };
        if size > 0 && !matches!(kind, EntryKind::File { .. }) {
            return Err(ArchiveError::Malformed("the size of something without content").into());
        }
        let name = EntryName::parse(&path)?;
        let mode = header.mode().map_err(|_| ArchiveError::Malformed("a mode"))? & 0o777;
        let modified = match extension.modified {
            Some(time) => time,
            None => {
                let seconds = header.mtime().map_err(|_| ArchiveError::Malformed("a time"))?;
                let seconds =
                    i64::try_from(seconds).map_err(|_| ArchiveError::Malformed("a time"))?;
                FileTime { seconds, nanoseconds: 0 }
            }
        };
        self.left = size;
        self.padding = padding(size);
        Ok(TarEntry { name, kind, mode, modified })
    }

    fn extension(&mut self, header: &Header) -> Result<Extension> {
        let mut extension = Extension::default();
        for (key, value) in pax::records(&self.records(header)?)? {
            match key {
                b"path" => extension.path = Some(value.to_vec()),
                b"linkpath" => extension.target = Some(value.to_vec()),
                b"mtime" => extension.modified = Some(pax::read_time(value)?),
                // A size in particular: there must be no doubt where the next header is.
                _ => return Err(ArchiveError::Malformed("a key of an extended header").into()),
            }
        }
        Ok(extension)
    }

    fn announcement(&mut self, header: &Header) -> Result<()> {
        for (key, value) in pax::records(&self.records(header)?)? {
            let number = str::from_utf8(value).ok().and_then(|text| text.parse().ok());
            match (key, number) {
                (pax::TOTAL, Some(number)) => self.total = Some(number),
                _ => return Err(ArchiveError::Malformed("a key of a header for all").into()),
            }
        }
        Ok(())
    }

    fn records(&mut self, header: &Header) -> Result<Vec<u8>> {
        let size = header.entry_size().map_err(|_| ArchiveError::Malformed("a size"))?;
        if size > pax::MAX_SIZE {
            return Err(ArchiveError::Malformed("the size of an extended header").into());
        }
        let mut records = vec![0; size as usize];
        self.fill(&mut records)?;
        self.padding = padding(size);
        self.skip_padding()?;
        Ok(records)
    }

    /// The next header; `None` for the block of zeros that begins the end.
    fn header(&mut self) -> Result<Option<Header>> {
        let mut header = Header::new_old();
        self.fill(header.as_mut_bytes())?;
        if header.as_bytes().iter().all(|&byte| byte == 0) {
            return Ok(None);
        }
        let recorded = header.cksum().map_err(|_| ArchiveError::Malformed("a header"))?;
        let mut same = header.clone();
        same.set_cksum();
        let computed = same.cksum().map_err(|_| ArchiveError::Malformed("a header"))?;
        if recorded != computed || header.as_ustar().is_none() {
            return Err(ArchiveError::Malformed("a header").into());
        }
        Ok(Some(header))
    }

    /// Reads what follows the first block of zeros: at least one more.
    fn tail(&mut self) -> Result<()> {
        let mut block = [0; BLOCK];
        self.fill(&mut block)?;
        let mut rest = 0;
        loop {
            if block.iter().any(|&byte| byte != 0) {
                return Err(ArchiveError::Malformed("what follows the end").into());
            }
            let count = match self.input.read(&mut block) {
                Ok(0) => return Ok(()),
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error).context("cannot read the stream"),
            };
            rest += count as u64;
            if rest > MAX_TAIL {
                return Err(ArchiveError::Malformed("what follows the end").into());
            }
        }
    }

    fn skip_padding(&mut self) -> Result<()> {
        let mut block = [0; BLOCK];
        let count = std::mem::take(&mut self.padding);
        self.fill(&mut block[..count])
    }

    fn fill(&mut self, bytes: &mut [u8]) -> Result<()> {
        match self.input.read_exact(bytes) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                Err(ArchiveError::Truncated.into())
            }
            result => result.context("cannot read the stream"),
        }
    }
}

fn padding(size: u64) -> usize {
    // Rounding up would overflow for a size near u64::MAX.
    (BLOCK - (size % BLOCK as u64) as usize) % BLOCK
}

fn checked_target(target: Vec<u8>) -> Result<Vec<u8>, ArchiveError> {
    if target.is_empty() || target.len() > PATH_MAX || target.contains(&0) {
        return Err(ArchiveError::Malformed("the target of a link"));
    }
    Ok(target)
}

/// The content of one file.
#[derive(Debug)]
pub struct EntryContent<'a, R>(&'a mut ArchiveReader<R>);

impl<R: Read> Read for EntryContent<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let wanted = buffer.len().min(usize::try_from(self.0.left).unwrap_or(usize::MAX));
        if wanted == 0 {
            return Ok(0);
        }
        let count = self.0.input.read(&mut buffer[..wanted])?;
        if count == 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, ArchiveError::Truncated));
        }
        self.0.left -= count as u64;
        Ok(count)
    }
}
