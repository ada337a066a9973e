//! Reading a stream into a sink: in order, within a quota, and only the kinds of files that are copied.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::hash::{BuildHasher, RandomState};
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

/// Checks the order of entries, and that no directory has a name twice: programs that unpack an archive would
/// replace one entry by the other, or follow it.
#[derive(Debug, Default)]
struct Order {
    root: Option<EntryKind>,
    /// The names on the way to the directory that the stream is in.
    open: Vec<Vec<u8>>,
    /// The names that came in the root and in each of these directories.
    came: Vec<NameSet>,
}

impl Order {
    fn check(&mut self, entry: &TarEntry) -> Result<(), ArchiveError> {
        match (&self.root, entry.name.split()) {
            // The root comes first.
            (None, None) => {
                self.root = Some(entry.kind.clone());
                self.came.push(NameSet::default());
            }
            (Some(EntryKind::Directory), Some((parent, leaf))) if self.open.starts_with(parent) => {
                self.open.truncate(parent.len());
                self.came.truncate(parent.len() + 1);
                if !self.came[parent.len()].insert(leaf) {
                    return Err(ArchiveError::Twice(entry.name.to_bytes()));
                }
                if entry.kind == EntryKind::Directory {
                    self.open = entry.name.parts().to_vec();
                    self.came.push(NameSet::default());
                }
            }
            (Some(_), None) => return Err(ArchiveError::Twice(entry.name.to_bytes())),
            _ => return Err(ArchiveError::Order(entry.name.to_bytes())),
        }
        Ok(())
    }
}

/// Names in little memory: as 128 bits of two hashes, which a sender cannot predict.
#[derive(Debug, Default)]
struct NameSet {
    keys: [RandomState; 2],
    hashes: HashSet<[u64; 2]>,
}

impl NameSet {
    /// False if the name is known.
    fn insert(&mut self, name: &OsStr) -> bool {
        self.hashes.insert([0, 1].map(|number: usize| self.keys[number].hash_one(name)))
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
