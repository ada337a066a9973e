//! Reading a stream into a sink: in order, within a quota, and only the kinds of files that are copied.

use std::io::{self, Read};

use anyhow::Result;

use super::broken::ArchiveError;
use super::entry::{EntryKind, TarEntry};
use super::quota::UnpackQuota;
use super::reader::ArchiveReader;
use super::tally::{CopyObserver, CopyTally};

/// Receives entries. Each comes after its directory, with nothing in between from outside that.
pub trait EntrySink {
    /// Receives a directory, whose contents follow.
    fn directory(&mut self, entry: &TarEntry) -> Result<()>;

    /// Receives a file, and reads its content to the end.
    fn file(&mut self, entry: &TarEntry, content: &mut dyn Read) -> Result<()>;

    /// Receives a symbolic link; `false` if links are not stored.
    fn link(&mut self, entry: &TarEntry, target: &[u8]) -> Result<bool>;

    /// How many bytes storing an entry takes in addition to its content.
    fn overhead(&self, _: &TarEntry) -> u64 {
        0
    }
}

/// Receives a whole stream. Returns the kind of its root.
///
/// # Errors
/// [`ArchiveError`], [`QuotaExceeded`](super::QuotaExceeded), and those of the sink.
pub fn receive<R: Read>(
    reader: &mut ArchiveReader<R>,
    sink: &mut dyn EntrySink,
    quota: &mut UnpackQuota,
    watch: &dyn CopyObserver,
) -> Result<(EntryKind, CopyTally)> {
    let mut tally = CopyTally::default();
    let mut order = Order::default();
    while let Some(entry) = reader.next_entry()? {
        if let (None, Some(total)) = (&order.root, reader.total()) {
            watch.total(total);
        }
        order.check(&entry)?;
        let size = if let EntryKind::File { size } = entry.kind { size } else { 0 };
        quota.take(size.saturating_add(sink.overhead(&entry)))?;
        let taken = match &entry.kind {
            EntryKind::Directory => sink.directory(&entry).map(|()| true)?,
            EntryKind::File { .. } => {
                let mut content = Counted { content: reader.content(), watch };
                sink.file(&entry, &mut content).map(|()| true)?
            }
            EntryKind::Link { target } => sink.link(&entry, target)?,
            EntryKind::Special => false,
        };
        if taken {
            tally.count(&entry.kind);
        } else {
            tally.skip(entry.name, &entry.kind);
        }
    }
    match order.root {
        Some(root) => Ok((root, tally)),
        None => Err(ArchiveError::Malformed("everything").into()),
    }
}

/// The directory that the stream is in.
#[derive(Debug, Default)]
struct Order {
    root: Option<EntryKind>,
    /// The names on the way to it.
    open: Vec<Vec<u8>>,
}

impl Order {
    fn check(&mut self, entry: &TarEntry) -> Result<(), ArchiveError> {
        match (&self.root, entry.name.split()) {
            // The root comes first.
            (None, None) => self.root = Some(entry.kind.clone()),
            (Some(EntryKind::Directory), Some((parent, _))) if self.open.starts_with(parent) => {
                self.open.truncate(parent.len());
                if entry.kind == EntryKind::Directory {
                    self.open = entry.name.parts().to_vec();
                }
            }
            (Some(_), None) => return Err(ArchiveError::Twice(entry.name.to_bytes())),
            _ => return Err(ArchiveError::Order(entry.name.to_bytes())),
        }
        Ok(())
    }
}

/// Content whose progress is reported.
struct Counted<'a, C> {
    content: C,
    watch: &'a dyn CopyObserver,
}

impl<C: Read> Read for Counted<'_, C> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.content.read(buffer)?;
        self.watch.moved(count as u64);
        Ok(count)
    }
}
