//! The members of a tar archive, one after the other, however hostile the archive: no name, header or
//! map from it takes more memory than a bound allows, and a member's size is what all readers of tar
//! would take it for.
//!
//! The crate `tar` knows the headers' fields. Its own iterator holds extended headers of any length in
//! memory and splits their records at line ends, which binary attributes contain.

use std::io::{self, Read};

use anyhow::{Context, Result, bail};
use tar::{EntryType, Header};

use super::pax::PaxRecords;
use super::sparse_map::SparseMap;

const BLOCK: u64 = 512;

/// Bytes of an extended header or a long name. Attributes are at most 64 KiB each on Linux.
const MAX_EXTENSION: u64 = 1 << 20;

/// One member's header, complete.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TarMember {
    /// As it is in the archive.
    pub name: Vec<u8>,
    pub kind: EntryType,
    /// Where a link leads to.
    pub link: Vec<u8>,
    /// Bytes of content, the holes of a sparse file included.
    pub size: u64,
    pub mode: u32,
    pub uid: u64,
    pub gid: u64,
    /// Seconds since 1970.
    pub mtime: i64,
    /// Extended attributes by name.
    pub attributes: Vec<(Vec<u8>, Vec<u8>)>,
    /// Bytes it takes in the archive.
    stored: u64,
    sparse: Option<SparseMap>,
}

/// Reads an archive from its start to its end.
#[derive(Debug)]
pub struct MemberReader<R> {
    input: R,
    position: u64,
    /// Bytes of the last member that were not read yet.
    left: u64,
    /// Bytes behind them, up to the next block.
    padding: u64,
    has_end: bool,
}

impl<R: Read> MemberReader<R> {
    pub fn new(input: R) -> MemberReader<R> {
        MemberReader { input, position: 0, left: 0, padding: 0, has_end: false }
    }

    /// Bytes read so far: after [`MemberReader::next`], where the member's content begins.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// Whether all members were read, and then what marks the end. Where that is missing, members may be
    /// missing too, unless a digest says otherwise.
    pub fn has_end(&self) -> bool {
        self.has_end
    }

    /// The next member; `None` at the end.
    pub fn next(&mut self) -> Result<Option<TarMember>> {
        self.next_with(&mut |input, bytes| {
            let skipped = io::copy(&mut input.take(bytes), &mut io::sink())?;
            if skipped < bytes { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(()) }
        })
    }

    /// The same with another way to pass bytes over than reading them.
    pub fn next_with(
        &mut self,
        skip: &mut dyn FnMut(&mut R, u64) -> io::Result<()>,
    ) -> Result<Option<TarMember>> {
        let (mut long_name, mut long_link, mut records) = (None, None, None);
        loop {
            let left = std::mem::take(&mut self.left);
            skip(&mut self.input, left).context("the archive ends in the middle of a file")?;
            self.position += left;
            let header = match self.pass_padding()? {
                true => self.header()?,
                false => None,
            };
            let Some(header) = header else {
                if long_name.is_some() || long_link.is_some() || records.is_some() {
                    bail!("the archive ends after an extended header");
                }
                return Ok(None);
            };
            let kind = header.entry_type();
            let extension = match kind {
                EntryType::GNULongName => &mut long_name,
                EntryType::GNULongLink => &mut long_link,
                EntryType::XHeader => &mut records,
                // What holds for all members is of no interest to anybody, as comments are.
                EntryType::XGlobalHeader => {
                    self.expect(header.entry_size()?)?;
                    continue;
                }
                _ => {
                    let records = PaxRecords::parse(records.as_deref().unwrap_or_default())?;
                    return self.member(&header, long_name, long_link, &records).map(Some);
                }
            };
            if extension.is_some() {
                bail!("the archive has two extended headers for one file");
            }
            *extension = Some(self.extension(header.entry_size()?)?);
        }
    }

    /// Reads of the content of the member that [`MemberReader::next`] gave, holes as zeros.
    pub fn content<'a>(&'a mut self, member: &'a TarMember) -> impl Read + 'a {
        let position = &mut self.position;
        let left = &mut self.left;
        let input = &mut self.input;
        let mut stored = member.stored.min(*left);
        let mut read = move |into: &mut [u8]| -> io::Result<usize> {
            let most = usize::try_from(stored).unwrap_or(usize::MAX).min(into.len());
            if most == 0 {
                return Ok(0);
            }
            let count = input.read(&mut into[..most])?;
            if count == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            stored -= count as u64;
            *left -= count as u64;
            *position += count as u64;
            Ok(count)
        };
        let mut holes = member.sparse.as_ref().map(SparseMap::walk);
        Content(move |into: &mut [u8]| match &mut holes {
            Some(holes) => holes.read(into, &mut read),
            None => read(into),
        })
    }

    /// Passes over what is between a member's content and the next header. Whether there can be one: some
    /// archives end with the content of their last file.
    fn pass_padding(&mut self) -> Result<bool> {
        let mut padding = [0; BLOCK as usize];
        let padding = &mut padding[..usize::try_from(std::mem::take(&mut self.padding))?];
        match self.fill(padding)? {
            count if count == padding.len() => Ok(true),
            0 => Ok(false),
            _ => bail!("the archive ends in the middle of a block"),
        }
    }

    /// Reads as much as there is, and at most what fits. Gives the number of bytes.
    fn fill(&mut self, bytes: &mut [u8]) -> Result<usize> {
        let mut filled = 0;
        while filled < bytes.len() {
            match self.input.read(&mut bytes[filled..]) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error).context("cannot read the archive"),
            }
        }
        self.position += filled as u64;
        Ok(filled)
    }

    /// The bytes that come next belong to a member, or to an extended header.
    fn expect(&mut self, size: u64) -> Result<()> {
        let padded =
            size.checked_next_multiple_of(BLOCK).context("the archive has a file without end")?;
        (self.left, self.padding) = (size, padded - size);
        Ok(())
    }

    fn header(&mut self) -> Result<Option<Header>> {
        let mut header = Header::new_old();
        let bytes = header.as_mut_bytes();
        let filled = self.fill(bytes)?;
        self.has_end = filled == bytes.len() && bytes.iter().all(|&byte| byte == 0);
        if filled == 0 || self.has_end {
            return Ok(None);
        }
        if filled < bytes.len() {
            bail!("the archive ends in the middle of a header");
        }
        // The checksum counts itself as eight spaces.
        let sum: u32 = bytes[..148].iter().chain(&bytes[156..]).map(|&byte| u32::from(byte)).sum();
        if header.cksum().ok() != Some(sum + 8 * 32) {
            bail!("there is no tar header at byte {}", self.position - BLOCK);
        }
        Ok(Some(header))
    }

    fn extension(&mut self, size: u64) -> Result<Vec<u8>> {
        if size > MAX_EXTENSION {
            bail!("the archive has an extended header of {size} bytes");
        }
        let mut bytes = vec![0; usize::try_from(size)?];
        self.expect(size)?;
        self.input.read_exact(&mut bytes).context("the archive ends in an extended header")?;
        self.position += size;
        self.left = 0;
        Ok(bytes)
    }

    fn member(
        &mut self,
        header: &Header,
        long_name: Option<Vec<u8>>,
        long_link: Option<Vec<u8>>,
        records: &PaxRecords,
    ) -> Result<TarMember> {
        if records.is_sparse {
            bail!("the archive has a sparse file in PAX form; make it with 'tar --format=gnu'");
        }
        let until_null = |mut name: Vec<u8>| {
            name.truncate(name.iter().position(|&byte| byte == 0).unwrap_or(name.len()));
            name
        };
        let name = records.path.clone().or(long_name.map(until_null));
        let link = records.link.clone().or(long_link.map(until_null));
        let kind = header.entry_type();
        let stored = records.size.map_or_else(|| header.entry_size(), Ok)?;
        let has_content =
            matches!(kind, EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse);
        // Links and directories have none, whatever their header says.
        let stored = if has_content { stored } else { 0 };
        let sparse = match kind {
            EntryType::GNUSparse => Some(SparseMap::read(header, stored, &mut || {
                let mut more = [0; BLOCK as usize];
                self.input.read_exact(&mut more).context("the archive ends in a map of holes")?;
                self.position += BLOCK;
                Ok(more)
            })?),
            _ => None,
        };
        self.expect(stored)?;
        Ok(TarMember {
            name: name.unwrap_or_else(|| header.path_bytes().into_owned()),
            kind,
            link: link.or_else(|| header.link_name_bytes().map(Into::into)).unwrap_or_default(),
            size: sparse.as_ref().map_or(stored, SparseMap::size),
            mode: if is_blank(header, 100..108) { 0 } else { header.mode()? & 0o7777 },
            uid: match records.uid {
                Some(uid) => uid,
                None if is_blank(header, 108..116) => 0,
                None => header.uid()?,
            },
            gid: match records.gid {
                Some(gid) => gid,
                None if is_blank(header, 116..124) => 0,
                None => header.gid()?,
            },
            // One before 1970 is written in a form that few can read.
            mtime: records.mtime.or_else(|| header.mtime().ok()?.try_into().ok()).unwrap_or(0),
            attributes: records.attributes.clone(),
            stored,
            sparse,
        })
    }
}

/// Whether a number was left out, which all readers take for zero.
fn is_blank(header: &Header, field: std::ops::Range<usize>) -> bool {
    header.as_bytes()[field].iter().all(|&byte| byte == 0 || byte == b' ')
}

/// A reader made of a function.
struct Content<F>(F);

impl<F: FnMut(&mut [u8]) -> io::Result<usize>> Read for Content<F> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        (self.0)(into)
    }
}
