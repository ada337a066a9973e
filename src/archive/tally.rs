//! What was copied.

use super::entry::Kind;
use super::name::Name;

/// How many of the things that were left out are named.
const NAMED: usize = 10;

/// Who waits for a copy.
pub trait Watch: Sync {
    /// Whether there is somebody, for whom it pays to count beforehand.
    fn is_there(&self) -> bool;

    /// So many bytes of files are to be expected. Not to be relied upon.
    fn total(&self, bytes: u64);

    /// So many more were moved.
    fn moved(&self, bytes: u64);
}

/// Nobody waits.
impl Watch for () {
    fn is_there(&self) -> bool {
        false
    }

    fn total(&self, _: u64) {}

    fn moved(&self, _: u64) {}
}

/// Counts what was sent or received.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Tally {
    pub files: u64,
    pub directories: u64,
    pub links: u64,
    /// Of files.
    pub bytes: u64,
    /// What was left out: its name and what it is. The first of them only.
    pub skipped: Vec<(Name, &'static str)>,
    pub skipped_count: u64,
}

impl Tally {
    /// Counts an entry that was copied.
    pub fn count(&mut self, kind: &Kind) {
        match kind {
            Kind::Directory => self.directories += 1,
            Kind::File { size } => {
                self.files += 1;
                self.bytes += size;
            }
            Kind::Link { .. } => self.links += 1,
            Kind::Special => {}
        }
    }

    /// Notes what was left out.
    pub fn skip(&mut self, name: Name, kind: &Kind) {
        self.skipped_count += 1;
        if self.skipped.len() < NAMED {
            self.skipped.push((name, kind.name()));
        }
    }
}
