//! From one stream to another, of which only what may be taken is left.

use std::ffi::OsString;
use std::io::{Read, Write};

use anyhow::{Context, Result};

use super::entry::TarEntry;
use super::receive::EntrySink;
use super::writer::ArchiveWriter;

/// Passes entries on, with everything beneath a name.
#[derive(Debug)]
pub struct EntryRelay<W: Write> {
    writer: ArchiveWriter<W>,
    top: Option<OsString>,
}

impl<W: Write> EntryRelay<W> {
    /// The root is called `top` on the other side, or nothing.
    pub fn new(out: W, top: Option<OsString>) -> EntryRelay<W> {
        EntryRelay { writer: ArchiveWriter::new(out), top }
    }

    /// Ends the other stream.
    ///
    /// # Errors
    /// That stream's, as everywhere here.
    pub fn finish(self) -> Result<()> {
        self.writer.finish().context("cannot write the archive")?;
        Ok(())
    }

    fn renamed(&self, entry: &TarEntry) -> TarEntry {
        let name = match &self.top {
            Some(top) => entry.name.beneath(top),
            None => entry.name.clone(),
        };
        TarEntry { name, ..entry.clone() }
    }
}

impl<W: Write> EntrySink for EntryRelay<W> {
    fn directory(&mut self, entry: &TarEntry) -> Result<()> {
        let entry = self.renamed(entry);
        self.writer.entry(&entry).context("cannot write the archive")
    }

    fn file(&mut self, entry: &TarEntry, content: &mut dyn Read) -> Result<()> {
        let entry = self.renamed(entry);
        self.writer.file(&entry, content, &()).context("cannot write the archive")
    }

    fn link(&mut self, _: &TarEntry, _: &[u8]) -> Result<bool> {
        Ok(false)
    }

    fn overhead(&self, entry: &TarEntry) -> u64 {
        ArchiveWriter::<W>::overhead(&self.renamed(entry))
    }
}
