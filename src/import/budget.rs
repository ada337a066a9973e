//! Limits on what unpacking may write, and on the space it leaves.

use std::os::fd::AsFd;

use anyhow::{Result, bail};
use serde::{Deserialize, Serialize};

use crate::model::{Refusal, RefusalKind};
use crate::sys::file_system;

/// Bytes of the file system that stay free.
const FLOOR: u64 = 256 << 20;

/// How many bytes are written between two checks of the free space.
const CHECK_INTERVAL: u64 = 32 << 20;

/// Limits on what is unpacked. Files that a later layer replaces count as well.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnpackBounds {
    /// Bytes in files.
    pub bytes: u64,
    /// Files, directories and links.
    pub entries: u64,
}

impl Default for UnpackBounds {
    /// More than real images have, less than does harm.
    fn default() -> UnpackBounds {
        UnpackBounds { bytes: 64 << 30, entries: 4_000_000 }
    }
}

/// What is left of [`UnpackBounds`].
#[derive(Debug)]
pub struct UnpackBudget {
    left: UnpackBounds,
    all: UnpackBounds,
    since_check: u64,
}

impl UnpackBudget {
    pub fn new(all: UnpackBounds) -> UnpackBudget {
        UnpackBudget { left: all, all, since_check: CHECK_INTERVAL }
    }

    /// Takes entries and bytes.
    ///
    /// # Errors
    /// `Usage` if less is left.
    pub fn take(&mut self, entries: u64, bytes: u64) -> Result<()> {
        let (Some(entries), Some(bytes)) =
            (self.left.entries.checked_sub(entries), self.left.bytes.checked_sub(bytes))
        else {
            let UnpackBounds { bytes, entries } = self.all;
            let message = format!(
                "it unpacks to more than {} GiB or {entries} files, the most that is allowed",
                bytes >> 30
            );
            bail!(Refusal::usage(message).hint("if you trust it, allow more with --max-size"));
        };
        self.left = UnpackBounds { bytes, entries };
        Ok(())
    }

    /// Counts bytes that were written to the file system of `place`, and checks its free space from time to
    /// time.
    ///
    /// # Errors
    /// `Host` if too little stays free.
    pub fn wrote(&mut self, bytes: u64, place: impl AsFd) -> Result<()> {
        self.since_check += bytes;
        if self.since_check < CHECK_INTERVAL {
            return Ok(());
        }
        self.since_check = 0;
        check_room(place, 0)
    }
}

/// Checks that `bytes` more can be written to the file system of `place`, and enough stays free.
///
/// # Errors
/// `Host` if not.
pub fn check_room(place: impl AsFd, bytes: u64) -> Result<()> {
    let free = file_system::free_around(place)?;
    if free < bytes.saturating_add(FLOOR) {
        let message = format!(
            "there is no room for it: {} MiB are free where images are kept, and {} MiB must stay free",
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
    fn too_much_is_refused_before_it_is_written() {
        let mut budget = UnpackBudget::new(UnpackBounds { bytes: 100, entries: 3 });
        budget.take(1, 60).unwrap();
        assert!(budget.take(1, 8 << 60).unwrap_err().to_string().contains("unpacks to more"));
        budget.take(1, 40).unwrap();
        assert!(budget.take(1, 1).is_err());
        budget.take(1, 0).unwrap();
        assert!(budget.take(1, 0).is_err());
    }

    #[test]
    fn some_space_must_stay_free() {
        let dir = std::fs::File::open("/").unwrap();
        check_room(&dir, 0).unwrap();
        let refusal = check_room(&dir, u64::MAX).unwrap_err();
        assert!(refusal.to_string().contains("no room"), "{refusal}");
    }
}
