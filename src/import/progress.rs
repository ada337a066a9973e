//! Reporting the progress of unpacking on standard output, from the sandbox to mayfly outside.

use std::time::{Duration, Instant};

/// How often progress is reported.
const PERIOD: Duration = Duration::from_millis(250);

/// Begins a line that is shown to the user.
const SHOWN: &str = "I: ";

/// Counts entries and reports their number.
#[derive(Debug, Default)]
pub struct UnpackProgress {
    /// What is being done, such as "copying files".
    pub doing: String,
    last: Option<Instant>,
    entries: u64,
}

impl UnpackProgress {
    /// Counts an entry.
    pub fn entry(&mut self) {
        self.entries += 1;
        // Reading the clock for each entry would take as long as writing a small file.
        if self.entries.is_multiple_of(32) && self.last.is_none_or(|last| last.elapsed() >= PERIOD)
        {
            println!("{SHOWN}{}: {} files", self.doing, self.entries);
            self.last = Some(Instant::now());
        }
    }
}

/// The part of a line that is shown to the user.
pub fn shown(line: &str) -> Option<&str> {
    line.strip_prefix(SHOWN)
}
