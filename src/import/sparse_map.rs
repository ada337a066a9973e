//! Where the content of a sparse file lies, in GNU tar's old form.

use std::io;

use anyhow::{Context, Result, bail};
use tar::{GnuExtSparseHeader, GnuSparseHeader, Header};

/// Pieces of one file. One with more holes than this is better made without them.
const MAX_PIECES: usize = 1 << 16;

/// The pieces of a file that are stored, each at its offset.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SparseMap {
    pieces: Vec<(u64, u64)>,
    size: u64,
}

impl SparseMap {
    /// Reads the map of a member whose pieces take `stored` bytes; `more` reads another of its blocks.
    pub fn read(
        header: &Header,
        stored: u64,
        more: &mut dyn FnMut() -> Result<[u8; 512]>,
    ) -> Result<SparseMap> {
        let gnu = header.as_gnu().context("the archive has a sparse file without a map")?;
        let mut map = SparseMap { pieces: Vec::new(), size: gnu.real_size()? };
        map.add(&gnu.sparse)?;
        let mut goes_on = gnu.is_extended();
        while goes_on {
            let mut extended = GnuExtSparseHeader::new();
            extended.as_mut_bytes().copy_from_slice(&more()?);
            map.add(&extended.sparse)?;
            goes_on = extended.is_extended();
        }
        let total: u64 = map.pieces.iter().map(|&(_, length)| length).sum();
        if total != stored || map.end() > map.size {
            bail!("the archive has a sparse file whose map does not fit it");
        }
        Ok(map)
    }

    /// Bytes of the file with its holes.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Reads the file with its holes.
    pub fn walk(&self) -> SparseWalk<'_> {
        SparseWalk { map: self, piece: 0, position: 0 }
    }

    fn add(&mut self, entries: &[GnuSparseHeader]) -> Result<()> {
        for entry in entries.iter().filter(|entry| !entry.is_empty()) {
            let (offset, length) = (entry.offset()?, entry.length()?);
            let fits = offset >= self.end() && offset.checked_add(length).is_some();
            if !fits || self.pieces.len() == MAX_PIECES {
                bail!("the archive has a sparse file whose map makes no sense");
            }
            self.pieces.push((offset, length));
        }
        Ok(())
    }

    fn end(&self) -> u64 {
        self.pieces.last().map_or(0, |&(offset, length)| offset + length)
    }
}

/// A way through a sparse file.
#[derive(Debug)]
pub struct SparseWalk<'a> {
    map: &'a SparseMap,
    piece: usize,
    position: u64,
}

impl SparseWalk<'_> {
    /// Fills `into` with zeros of a hole, or with what `stored` has next.
    pub fn read(
        &mut self,
        into: &mut [u8],
        stored: &mut dyn FnMut(&mut [u8]) -> io::Result<usize>,
    ) -> io::Result<usize> {
        while let Some(&(offset, length)) = self.map.pieces.get(self.piece) {
            if self.position < offset {
                return Ok(self.zeros(into, offset));
            }
            let left = offset + length - self.position;
            if left > 0 {
                let most = usize::try_from(left).unwrap_or(usize::MAX).min(into.len());
                let count = stored(&mut into[..most])?;
                self.position += count as u64;
                return Ok(count);
            }
            self.piece += 1;
        }
        Ok(self.zeros(into, self.map.size))
    }

    fn zeros(&mut self, into: &mut [u8], until: u64) -> usize {
        let count = usize::try_from(until - self.position).unwrap_or(usize::MAX).min(into.len());
        into[..count].fill(0);
        self.position += count as u64;
        count
    }
}
