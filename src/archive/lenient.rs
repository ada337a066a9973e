//! Reading tar archives that other programs made, however hostile: no name, header or map in one takes
//! more memory than a bound allows, and the size of a member is what all readers of tar take it for.
//!
//! The `tar` crate knows the fields of headers. Its own iterator keeps extended headers of any length in
//! memory and splits their records at line ends, which names and attributes may contain.

use std::io::{self, Read};

use anyhow::{Context, Result, bail};
use tar::{EntryType, Header};

use super::broken::shown;
use super::entry::FileTime;
use super::pax::{CONTINUED, PaxRecords};
use super::sparse_map::{self, SparseRecords};

const BLOCK: u64 = 512;

/// Types that GNU tar added: the name of the whole archive, the rest of a file from another volume, and a
/// directory of an incremental backup.
const VOLUME_LABEL: u8 = b'V';
const CONTINUED_FILE: u8 = b'M';
const DUMPED_DIRECTORY: u8 = b'D';

/// Bytes of an extended header or a long name. Attributes are at most 64 KiB each on Linux.
const MAX_EXTENSION: u64 = 1 << 20;

/// One member's header, complete.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TarMember {
    /// As it is in the archive.
    pub name: Vec<u8>,
    pub kind: EntryType,
    /// The target of a link.
    pub link: Vec<u8>,
    /// Bytes of content, the holes of a sparse file included.
    pub size: u64,
    /// Offset and length of each piece of the content that is stored: one, but for a sparse file.
    pub pieces: Vec<(u64, u64)>,
    /// Permissions with the set-id and sticky bits.
    pub mode: u32,
    pub uid: u64,
    pub gid: u64,
    pub modified: FileTime,
    /// Extended attributes by name.
    pub attributes: Vec<(Vec<u8>, Vec<u8>)>,
}

/// Reads an archive from start to end.
#[derive(Debug)]
pub struct MemberReader<R> {
    input: R,
    position: u64,
    /// Bytes of the last member that are not read yet.
    left: u64,
    /// Bytes after them, up to the next block.
    padding: u64,
    has_end: bool,
    /// The records that hold for all members that follow.
    global: PaxRecords,
}

impl<R: Read> MemberReader<R> {
    pub fn new(input: R) -> MemberReader<R> {
        MemberReader {
            input,
            position: 0,
            left: 0,
            padding: 0,
            has_end: false,
            global: PaxRecords::default(),
        }
    }

    /// Bytes read so far: after [`MemberReader::next_member`], where the member's content begins.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// Whether the block of zeros that marks the end was read. Without one, members may be missing,
    /// unless a digest says otherwise.
    pub fn has_end(&self) -> bool {
        self.has_end
    }

    /// The next member; `None` at the end.
    ///
    /// # Errors
    /// If the archive is damaged, and those of reading it.
    pub fn next_member(&mut self) -> Result<Option<TarMember>> {
        self.next_member_with(&mut |input, bytes| {
            let skipped = io::copy(&mut input.take(bytes), &mut io::sink())?;
            if skipped < bytes { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(()) }
        })
    }

    /// The next member, with another way to skip bytes than reading them.
    pub fn next_member_with(
        &mut self,
        skip: &mut dyn FnMut(&mut R, u64) -> io::Result<()>,
    ) -> Result<Option<TarMember>> {
        let (mut long_name, mut long_link, mut records) = (None, None, None);
        loop {
            let left = std::mem::take(&mut self.left);
            skip(&mut self.input, left).context("the archive ends in the middle of a file")?;
            self.position += left;
            let header = if self.pass_padding()? { self.header()? } else { None };
            let Some(header) = header else {
                if long_name.is_some() || long_link.is_some() || records.is_some() {
                    bail!("the archive ends after an extended header");
                }
                return Ok(None);
            };
            let extension = match header.entry_type() {
                EntryType::GNULongName => &mut long_name,
                EntryType::GNULongLink => &mut long_link,
                EntryType::XHeader => &mut records,
                EntryType::XGlobalHeader => {
                    let bytes = self.extension(size_of(&header)?)?;
                    self.global.update(&bytes)?;
                    // An attribute belongs to one file.
                    self.global.attributes.clear();
                    if !self.global.sparse.is_empty() {
                        bail!("the archive says that all its files are sparse");
                    }
                    continue;
                }
                kind if kind.as_byte() == VOLUME_LABEL => {
                    (long_name, long_link, records) = (None, None, None);
                    self.expect(size_of(&header)?)?;
                    continue;
                }
                _ => {
                    let mut all = self.global.clone();
                    all.update(records.as_deref().unwrap_or_default())?;
                    return self.member(&header, long_name, long_link, all).map(Some);
                }
            };
            if extension.is_some() {
                bail!("the archive has two extended headers for one file");
            }
            *extension = Some(self.extension(size_of(&header)?)?);
        }
    }

    /// The stored content of the member that [`MemberReader::next_member`] returned: its pieces, one after another.
    pub fn content(&mut self) -> impl Read {
        MemberContent(self)
    }

    /// Passes over what is between a member's content and the next header. False at the end of the input:
    /// some archives end with the content of their last file.
    fn pass_padding(&mut self) -> Result<bool> {
        let mut padding = [0; BLOCK as usize];
        let padding = &mut padding[..usize::try_from(std::mem::take(&mut self.padding))?];
        match self.fill(padding)? {
            count if count == padding.len() => Ok(true),
            0 => Ok(false),
            _ => bail!("the archive ends in the middle of a block"),
        }
    }

    /// Reads as much as there is, and at most what fits. Returns the number of bytes.
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

    /// Notes that this many bytes of content come next.
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
        self.content().read_exact(&mut bytes).context("the archive ends in an extended header")?;
        Ok(bytes)
    }

    fn member(
        &mut self,
        header: &Header,
        long_name: Option<Vec<u8>>,
        long_link: Option<Vec<u8>>,
        records: PaxRecords,
    ) -> Result<TarMember> {
        let until_null = |mut name: Vec<u8>| {
            name.truncate(name.iter().position(|&byte| byte == 0).unwrap_or(name.len()));
            name
        };
        let sparse = SparseRecords::of(&records.sparse)?;
        let name = sparse.as_ref().and_then(|sparse| sparse.name.clone());
        let name = name.or(records.path).or(long_name.map(until_null));
        let name = name.unwrap_or_else(|| header.path_bytes().into_owned());
        let link = records.link.or(long_link.map(until_null));
        let link = link.or_else(|| header.link_name_bytes().map(Into::into)).unwrap_or_default();
        let mut kind = header.entry_type();
        let foreign = Some(CONTINUED).filter(|_| kind.as_byte() == CONTINUED_FILE);
        if let Some(what) = records.foreign.or(foreign) {
            bail!(
                "{} in it is {what}; unpack the archive with its own program first",
                shown(&name)
            );
        }
        let stored = match kind {
            // These have no content, whatever the header says.
            EntryType::Directory
            | EntryType::Link
            | EntryType::Symlink
            | EntryType::Char
            | EntryType::Block
            | EntryType::Fifo => 0,
            _ => records.size.map_or_else(|| size_of(header), Ok)?,
        };
        let (mut size, mut left, mut pieces) = (stored, stored, vec![(0, stored)]);
        let mut more = || {
            let mut more = [0; BLOCK as usize];
            if self.fill(&mut more)? < more.len() {
                bail!("the archive ends in the map of a sparse file");
            }
            Ok(more)
        };
        match kind {
            EntryType::GNUSparse => {
                (size, pieces) = sparse_map::read(header, stored, &mut more)?;
            }
            EntryType::Regular | EntryType::Continuous if sparse.is_some() => {
                kind = EntryType::GNUSparse;
                let map = sparse.unwrap_or_default().map(stored, &mut more)?;
                (size, left, pieces) = (map.size, map.left, map.pieces);
            }
            _ if sparse.is_some() => bail!("the archive has a sparse file that is not a file"),
            // Incremental backups have the names in a directory as its content.
            _ if kind.as_byte() == DUMPED_DIRECTORY => kind = EntryType::Directory,
            // Old archives mark a directory by its name.
            EntryType::Regular if stored == 0 && name.ends_with(b"/") => {
                kind = EntryType::Directory;
            }
            _ => {}
        }
        self.expect(left)?;
        let number = |record: Option<u64>, field: std::ops::Range<usize>, value| match record {
            Some(number) => Ok(number),
            None if is_blank(header, field) => Ok(0),
            None => value,
        };
        // GNU tar writes times before 1970 in two's complement.
        let in_header =
            || Some(FileTime { seconds: header.mtime().ok()?.cast_signed(), nanoseconds: 0 });
        Ok(TarMember {
            name,
            kind,
            link,
            size,
            pieces,
            mode: number(None, 100..108, header.mode().map(u64::from))? as u32 & 0o7777,
            uid: number(records.uid, 108..116, header.uid())?,
            gid: number(records.gid, 116..124, header.gid())?,
            modified: records.modified.or_else(in_header).unwrap_or_default(),
            attributes: records.attributes,
        })
    }
}

/// Bytes of content, by the header.
fn size_of(header: &Header) -> io::Result<u64> {
    if is_blank(header, 124..136) { Ok(0) } else { header.entry_size() }
}

/// Whether a number is blank, which means zero. GNU tar leaves out most numbers of a volume label.
fn is_blank(header: &Header, field: std::ops::Range<usize>) -> bool {
    header.as_bytes()[field].iter().all(|&byte| matches!(byte, 0 | b' '))
}

/// The content of the last member, up to its end.
struct MemberContent<'a, R>(&'a mut MemberReader<R>);

impl<R: Read> Read for MemberContent<'_, R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.0.left).unwrap_or(usize::MAX).min(into.len());
        let count = self.0.input.read(&mut into[..most])?;
        if count == 0 && most > 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.0.left -= count as u64;
        self.0.position += count as u64;
        Ok(count)
    }
}
