//! Copying the entries of one stream to another.

use std::ffi::OsString;
use std::io::{Read, Write};

use anyhow::{Context, Result};

use super::broken::ArchiveError;
use super::entry::TarEntry;
use super::entry_output::EntryOutput;
use super::receive::EntrySink;
use super::writer::ArchiveWriter;

/// Writes entries to another stream, with all names beneath another one.
#[derive(Debug)]
pub struct EntryRelay<W: Write> {
    writer: ArchiveWriter<W>,
    top: Option<OsString>,
}

impl<W: Write> EntryRelay<W> {
    /// The root is called `top` in the other stream; `None` leaves it without a name.
    pub fn new(out: W, top: Option<OsString>) -> EntryRelay<W> {
        EntryRelay { writer: ArchiveWriter::new(out), top }
    }

    /// Ends the other stream.
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
        if entry.name.is_root() {
            // No directory can take it, and the writer cannot say what it is called.
            return Err(ArchiveError::name(&entry.name.to_bytes(), "names no file").into());
        }
        self.writer.file(&entry, content, &()).context("cannot write the archive")
    }

    fn link(&mut self, _: &TarEntry, _: &[u8]) -> Result<bool> {
        Ok(false)
    }

    fn overhead(&self, entry: &TarEntry) -> u64 {
        ArchiveWriter::<W>::overhead(&self.renamed(entry))
    }
}
