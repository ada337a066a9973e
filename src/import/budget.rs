//! What unpacking may take: of an archive's promises, and of the disk.

use std::os::fd::AsFd;

use anyhow::{Result, bail};
use serde::{Deserialize, Serialize};

use crate::model::{Refusal, RefusalKind};
use crate::sys::file_system;

/// Bytes of the file system that are left to others.
const FLOOR: u64 = 256 << 20;

/// How many bytes are written between two looks at the file system.
const STRIDE: u64 = 32 << 20;

/// Bounds on what is unpacked, layers that replace each other's files counted in full.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnpackBounds {
    /// Bytes of files.
    pub bytes: u64,
    /// Files, directories, links.
    pub entries: u64,
}

impl Default for UnpackBounds {
    /// More than honest images have, less than hurts.
    fn default() -> UnpackBounds {
        UnpackBounds { bytes: 64 << 30, entries: 4_000_000 }
    }
}

/// What is left of them.
#[derive(Debug)]
pub struct UnpackBudget {
    left: UnpackBounds,
    all: UnpackBounds,
    since_look: u64,
}

impl UnpackBudget {
    pub fn new(all: UnpackBounds) -> UnpackBudget {
        UnpackBudget { left: all, all, since_look: STRIDE }
    }

    /// Takes one entry with that many bytes of content.
    ///
    /// Errors: `Usage` when there is no such amount left.
    pub fn take(&mut self, bytes: u64) -> Result<()> {
        self.take_of(1, bytes)
    }

    /// Takes bytes of an entry that is as long as it turns out to be.
    pub fn take_bytes(&mut self, bytes: u64) -> Result<()> {
        self.take_of(0, bytes)
    }

    fn take_of(&mut self, entries: u64, bytes: u64) -> Result<()> {
        let (Some(entries), Some(bytes)) =
            (self.left.entries.checked_sub(entries), self.left.bytes.checked_sub(bytes))
        else {
            let UnpackBounds { bytes, entries } = self.all;
            let message = format!(
                "it unpacks to more than {} GiB or {entries} files, which is the most there may be",
                bytes >> 30
            );
            bail!(
                Refusal::new(RefusalKind::Usage, message)
                    .hint("if it is what you think it is, allow more with --max-size")
            );
        };
        self.left = UnpackBounds { bytes, entries };
        Ok(())
    }

    /// Counts bytes that were written to the file system of `place`, and looks at it now and then.
    ///
    /// Errors: `Host` when others will soon have no room left.
    pub fn wrote(&mut self, bytes: u64, place: impl AsFd) -> Result<()> {
        self.since_look += bytes;
        if self.since_look < STRIDE {
            return Ok(());
        }
        self.since_look = 0;
        check_room(place, 0)
    }
}

/// Makes sure that `bytes` more can be written where `place` is, and enough stays free.
///
/// Errors: `Host`.
pub fn check_room(place: impl AsFd, bytes: u64) -> Result<()> {
    let free = file_system::free_around(place)?;
    if free < bytes.saturating_add(FLOOR) {
        let message = format!(
            "there is no room for it: {} MiB are free where images are kept, and {} MiB must stay so",
            free >> 20,
            FLOOR >> 20
        );
        bail!(
            Refusal::new(RefusalKind::Host, message)
                .hint("free some space, or keep images elsewhere: MAYFLY_ARTIFACTS_DIR")
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_too_much_is_refused_before_it_is_written() {
        let mut budget = UnpackBudget::new(UnpackBounds { bytes: 100, entries: 3 });
        budget.take(60).unwrap();
        assert!(budget.take(8 << 60).unwrap_err().to_string().contains("unpacks to more"));
        budget.take(40).unwrap();
        assert!(budget.take(1).is_err());
        budget.take(0).unwrap();
        assert!(budget.take(0).is_err());
    }

    #[test]
    fn a_disk_is_not_filled_to_the_brim() {
        let dir = std::fs::File::open("/").unwrap();
        check_room(&dir, 0).unwrap();
        let refusal = check_room(&dir, u64::MAX).unwrap_err();
        assert!(refusal.to_string().contains("no room"), "{refusal}");
    }
}
