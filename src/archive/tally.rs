//! What was copied.

use super::entry::EntryKind;
use super::name::EntryName;

/// How many of the things that were left out are named.
const NAMED: usize = 10;

/// Who waits for a copy.
pub trait CopyObserver: Sync {
    /// Whether there is somebody, for whom it pays to count beforehand.
    fn is_there(&self) -> bool;

    /// So many bytes of files are to be expected. Not to be relied upon.
    fn total(&self, bytes: u64);

    /// So many more were moved.
    fn moved(&self, bytes: u64);
}

/// Nobody waits.
impl CopyObserver for () {
    fn is_there(&self) -> bool {
        false
    }

    fn total(&self, _: u64) {}

    fn moved(&self, _: u64) {}
}

/// Counts what was sent or received.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CopyTally {
    pub files: u64,
    pub directories: u64,
    pub links: u64,
    /// Of files.
    pub bytes: u64,
    /// What was left out: its name and what it is. The first of them only.
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

    /// Notes what was left out.
    pub fn skip(&mut self, name: EntryName, kind: &EntryKind) {
        self.skipped_count += 1;
        if self.skipped.len() < NAMED {
            self.skipped.push((name, kind.name()));
        }
    }
}
