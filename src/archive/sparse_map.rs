//! Maps of sparse files: in GNU tar's old format, and in its three pax formats, the last of which bsdtar writes too.

use anyhow::{Context, Result, bail};
use tar::{GnuExtSparseHeader, GnuSparseHeader, Header};

/// Pieces of one file. One with more holes than this is better made without them.
const MAX_PIECES: usize = 1 << 16;

/// Reads the map of a member that takes `stored` bytes of the archive; `more` reads another block of
/// the map. Returns the size of the file, holes included, and offset and length of each piece.
///
/// # Errors
/// If the map contradicts itself or `stored`, and those of `more`.
pub fn read(
    header: &Header,
    stored: u64,
    more: &mut dyn FnMut() -> Result<[u8; 512]>,
) -> Result<(u64, Vec<(u64, u64)>)> {
    let gnu = header.as_gnu().context("the archive has a sparse file without a map")?;
    let mut pieces = Vec::new();
    add_fields(&mut pieces, &gnu.sparse)?;
    let mut is_extended = gnu.is_extended();
    while is_extended {
        let mut extended = GnuExtSparseHeader::new();
        extended.as_mut_bytes().copy_from_slice(&more()?);
        add_fields(&mut pieces, &extended.sparse)?;
        is_extended = extended.is_extended();
    }
    let size = gnu.real_size()?;
    check(&pieces, stored, size)?;
    Ok((size, pieces))
}

/// What the records of a sparse file in pax format say.
#[derive(Debug, Default)]
pub struct SparseRecords {
    /// The name of the file. That of the member is another one.
    pub name: Option<Vec<u8>>,
    /// Bytes of the file, holes included.
    size: u64,
    /// Offset and length of each piece; `None` if they are at the beginning of the content (format 1.0).
    pieces: Option<Vec<u64>>,
}

/// The map of a sparse file in pax format.
#[derive(Debug)]
pub struct SparseMap {
    /// Bytes of the file, holes included.
    pub size: u64,
    /// Bytes of the member's content that follow.
    pub left: u64,
    /// Offset and length of each piece.
    pub pieces: Vec<(u64, u64)>,
}

impl SparseRecords {
    /// Parses records; `None` if there are none.
    ///
    /// # Errors
    /// If they are invalid or of an unknown version.
    pub fn of(records: &[(Vec<u8>, Vec<u8>)]) -> Result<Option<SparseRecords>> {
        if records.is_empty() {
            return Ok(None);
        }
        let last = |key: &[u8]| {
            records.iter().rev().find(|(known, _)| known == key).map(|(_, value)| value.as_slice())
        };
        let size = last(b"realsize").or(last(b"size")).context(NONSENSE)?;
        let pieces: Option<Vec<u64>> = match (last(b"major"), last(b"minor"), last(b"map")) {
            (Some(b"1"), Some(b"0"), _) => None,
            (None, None, Some(map)) => Some(
                map.split(|&byte| byte == b',')
                    .filter(|part| !part.is_empty())
                    .map(number)
                    .collect::<Result<_>>()?,
            ),
            (None, None, None) => {
                let parts =
                    records.iter().filter(|(key, _)| key == b"offset" || key == b"numbytes");
                // An offset and a length in turn.
                let keys = [&b"offset"[..], b"numbytes"].into_iter().cycle();
                let numbers = parts.zip(keys).map(|((key, value), wanted)| {
                    if key == wanted { number(value) } else { bail!(NONSENSE) }
                });
                Some(numbers.collect::<Result<_>>()?)
            }
            _ => bail!("the archive has a sparse file in a format of a newer tar"),
        };
        if let (Some(pieces), Some(count)) = (&pieces, last(b"numblocks"))
            && number(count)?.checked_mul(2) != Some(pieces.len() as u64)
        {
            bail!(NONSENSE);
        }
        let name = last(b"name").map(<[u8]>::to_vec);
        Ok(Some(SparseRecords { name, size: number(size)?, pieces }))
    }

    /// The map of a member that takes `stored` bytes of the archive; `more` reads another block of them.
    ///
    /// # Errors
    /// As for [`read`].
    pub fn map(
        self,
        stored: u64,
        more: &mut dyn FnMut() -> Result<[u8; 512]>,
    ) -> Result<SparseMap> {
        let mut left = stored;
        let numbers = match self.pieces {
            Some(numbers) => numbers,
            None => {
                let mut lines = MapLines { left: &mut left, more, block: [0; 512], at: 512 };
                let count = lines.number()?;
                if count > MAX_PIECES as u64 {
                    bail!(NONSENSE);
                }
                (0..2 * count).map(|_| lines.number()).collect::<Result<_>>()?
            }
        };
        let mut pieces = Vec::new();
        for pair in numbers.chunks(2) {
            let &[offset, length] = pair else { bail!(NONSENSE) };
            add(&mut pieces, offset, length)?;
        }
        check(&pieces, left, self.size)?;
        Ok(SparseMap { size: self.size, left, pieces })
    }
}

/// The lines of a map at the beginning of a member's content, which fills whole blocks.
struct MapLines<'a> {
    left: &'a mut u64,
    more: &'a mut dyn FnMut() -> Result<[u8; 512]>,
    block: [u8; 512],
    at: usize,
}

impl MapLines<'_> {
    fn number(&mut self) -> Result<u64> {
        let mut digits = Vec::new();
        loop {
            if self.at == self.block.len() {
                *self.left = self.left.checked_sub(512).context(NONSENSE)?;
                (self.block, self.at) = ((self.more)()?, 0);
            }
            let byte = self.block[self.at];
            self.at += 1;
            match byte {
                b'\n' => return number(&digits),
                _ if digits.len() < MAX_DIGITS => digits.push(byte),
                _ => bail!(NONSENSE),
            }
        }
    }
}

/// Digits of the largest number of 64 bits.
const MAX_DIGITS: usize = 20;

const NONSENSE: &str = "the archive has a sparse file whose map makes no sense";

fn number(digits: &[u8]) -> Result<u64> {
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        bail!(NONSENSE);
    }
    str::from_utf8(digits)?.parse().context(NONSENSE)
}

fn add_fields(pieces: &mut Vec<(u64, u64)>, entries: &[GnuSparseHeader]) -> Result<()> {
    entries
        .iter()
        .filter(|entry| !entry.is_empty())
        .try_for_each(|entry| add(pieces, entry.offset()?, entry.length()?))
}

fn add(pieces: &mut Vec<(u64, u64)>, offset: u64, length: u64) -> Result<()> {
    let fits = offset >= end(pieces) && offset.checked_add(length).is_some();
    if !fits || pieces.len() == MAX_PIECES {
        bail!(NONSENSE);
    }
    // GNU tar marks the end of the file by a piece without content.
    if length > 0 {
        pieces.push((offset, length));
    }
    Ok(())
}

/// Compares the pieces with the bytes that are stored, and with the size of the file.
fn check(pieces: &[(u64, u64)], stored: u64, size: u64) -> Result<()> {
    let total: u64 = pieces.iter().map(|&(_, length)| length).sum();
    if total != stored || end(pieces) > size {
        bail!("the archive has a sparse file whose map does not fit it");
    }
    Ok(())
}

fn end(pieces: &[(u64, u64)]) -> u64 {
    pieces.last().map_or(0, |&(offset, length)| offset + length)
}
