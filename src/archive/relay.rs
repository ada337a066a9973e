//! From one stream to another, of which only what may be taken is left.

use std::ffi::OsString;
use std::io::{Read, Write};

use anyhow::{Context, Result};

use super::entry::Entry;
use super::receive::Sink;
use super::writer::Writer;

/// Passes entries on, with everything beneath a name.
#[derive(Debug)]
pub struct Relay<W: Write> {
    writer: Writer<W>,
    top: Option<OsString>,
}

impl<W: Write> Relay<W> {
    /// The root is called `top` on the other side, or nothing.
    pub fn new(out: W, top: Option<OsString>) -> Relay<W> {
        Relay { writer: Writer::new(out), top }
    }

    /// Ends the other stream.
    ///
    /// # Errors
    /// That stream's, as everywhere here.
    pub fn finish(self) -> Result<()> {
        self.writer.finish().context("cannot write the archive")?;
        Ok(())
    }

    fn renamed(&self, entry: &Entry) -> Entry {
        let name = match &self.top {
            Some(top) => entry.name.beneath(top),
            None => entry.name.clone(),
        };
        Entry { name, ..entry.clone() }
    }
}

impl<W: Write> Sink for Relay<W> {
    fn directory(&mut self, entry: &Entry) -> Result<()> {
        let entry = self.renamed(entry);
        self.writer.entry(&entry).context("cannot write the archive")
    }

    fn file(&mut self, entry: &Entry, content: &mut dyn Read) -> Result<()> {
        let entry = self.renamed(entry);
        self.writer.file(&entry, content, &()).context("cannot write the archive")
    }

    fn link(&mut self, _: &Entry, _: &[u8]) -> Result<bool> {
        Ok(false)
    }

    fn overhead(&self, entry: &Entry) -> u64 {
        Writer::<W>::overhead(&self.renamed(entry))
    }
}
