//! The map of a sparse file in GNU tar's old format.

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
    add(&mut pieces, &gnu.sparse)?;
    let mut is_extended = gnu.is_extended();
    while is_extended {
        let mut extended = GnuExtSparseHeader::new();
        extended.as_mut_bytes().copy_from_slice(&more()?);
        add(&mut pieces, &extended.sparse)?;
        is_extended = extended.is_extended();
    }
    let size = gnu.real_size()?;
    let total: u64 = pieces.iter().map(|&(_, length)| length).sum();
    if total != stored || end(&pieces) > size {
        bail!("the archive has a sparse file whose map does not fit it");
    }
    Ok((size, pieces))
}

fn add(pieces: &mut Vec<(u64, u64)>, entries: &[GnuSparseHeader]) -> Result<()> {
    for entry in entries.iter().filter(|entry| !entry.is_empty()) {
        let (offset, length) = (entry.offset()?, entry.length()?);
        let fits = offset >= end(pieces) && offset.checked_add(length).is_some();
        if !fits || pieces.len() == MAX_PIECES {
            bail!("the archive has a sparse file whose map makes no sense");
        }
        // GNU tar marks the end of the file by a piece without content.
        if length > 0 {
            pieces.push((offset, length));
        }
    }
    Ok(())
}

fn end(pieces: &[(u64, u64)]) -> u64 {
    pieces.last().map_or(0, |&(offset, length)| offset + length)
}
