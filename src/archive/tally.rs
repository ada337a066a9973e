//! Counting what is copied.

use super::entry::EntryKind;
use super::name::EntryName;

/// How many of the skipped entries are named.
const NAMED: usize = 10;

/// Observes the progress of a copy.
pub trait CopyObserver: Sync {
    /// Whether the progress is shown at all, so that the total is worth counting.
    fn is_shown(&self) -> bool;

    /// About this many bytes will be moved.
    fn total(&self, bytes: u64);

    /// This many more bytes were moved.
    fn moved(&self, bytes: u64);
}

/// Ignores the progress.
impl CopyObserver for () {
    fn is_shown(&self) -> bool {
        false
    }

    fn total(&self, _: u64) {}

    fn moved(&self, _: u64) {}
}

/// The number of entries sent or received.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CopyTally {
    pub files: u64,
    pub directories: u64,
    pub links: u64,
    /// Bytes in files.
    pub bytes: u64,
    /// Name and kind of the first entries that were skipped.
    pub skipped: Vec<(EntryName, &'static str)>,
    pub skipped_count: u64,
}

impl CopyTally {
    /// Counts an entry that was copied.
    pub fn count(&mut self, kind: &EntryKind) {
        match kind {
            EntryKind::Directory => self.directories += 1,
            EntryKind::File { size } => {
                self.files += 1;
                self.bytes += size;
            }
            EntryKind::Link { .. } => self.links += 1,
            EntryKind::Special => {}
        }
    }

    /// Notes an entry that was skipped.
    pub fn skip(&mut self, name: EntryName, kind: &EntryKind) {
        self.skipped_count += 1;
        if self.skipped.len() < NAMED {
            self.skipped.push((name, kind.name()));
        }
    }
}
