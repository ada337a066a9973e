//! Limits on what a stream may take from its receiver.

use std::fmt;
use std::os::fd::OwnedFd;

use anyhow::{Context, Result};

use crate::sys::file_system;

/// How much more may be received.
#[derive(Debug)]
pub struct UnpackQuota {
    bytes: Bound,
    entries: Bound,
    /// The destination, and how many bytes must stay free there.
    floor: Option<(OwnedFd, u64)>,
}

#[derive(Debug, Clone, Copy)]
struct Bound {
    left: u64,
    limit: u64,
}

/// The limit that a stream exceeded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum QuotaExceeded {
    Bytes {
        limit: u64,
    },
    Entries {
        limit: u64,
    },
    /// A file of `size` bytes would leave less than `floor` of the `free` bytes.
    Room {
        size: u64,
        free: u64,
        floor: u64,
    },
}

impl UnpackQuota {
    /// At most this many bytes in files, and this many files and directories.
    pub fn new(bytes: u64, entries: u64) -> UnpackQuota {
        let bound = |limit| Bound { left: limit, limit };
        UnpackQuota { bytes: bound(bytes), entries: bound(entries), floor: None }
    }

    /// No limits, for a guest that receives from its host.
    pub fn unlimited() -> UnpackQuota {
        UnpackQuota::new(u64::MAX, u64::MAX)
    }

    /// Adds the limit that `floor` bytes stay free in the file system of `directory`.
    pub fn leaving(mut self, floor: u64, directory: OwnedFd) -> UnpackQuota {
        self.floor = Some((directory, floor));
        self
    }

    /// Counts an entry and the size it declares, before it is created.
    ///
    /// # Errors
    /// [`QuotaExceeded`], and those of reading the file system's free space.
    pub fn take(&mut self, size: u64) -> Result<()> {
        let Bound { limit, left } = self.entries;
        self.entries.left = left.checked_sub(1).ok_or(QuotaExceeded::Entries { limit })?;
        let Bound { limit, left } = self.bytes;
        self.bytes.left = left.checked_sub(size).ok_or(QuotaExceeded::Bytes { limit })?;
        if let Some((directory, floor)) = &self.floor {
            let free =
                file_system::free_around(directory).context("cannot see how much space is free")?;
            if free.checked_sub(size).is_none_or(|rest| rest < *floor) {
                return Err(QuotaExceeded::Room { size, free, floor: *floor }.into());
            }
        }
        Ok(())
    }
}

impl fmt::Display for QuotaExceeded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            QuotaExceeded::Bytes { limit } => write!(f, "it is larger than {}", ByteCount(*limit)),
            QuotaExceeded::Entries { limit } => write!(f, "it has more than {limit} files"),
            QuotaExceeded::Room { size, free, floor } => write!(
                f,
                "there is no room for a file of {}: {} are free, and {} must stay free",
                ByteCount(*size),
                ByteCount(*free),
                ByteCount(*floor)
            ),
        }
    }
}

impl std::error::Error for QuotaExceeded {}

/// A number of bytes, shown with a unit.
#[derive(Debug, Clone, Copy)]
pub struct ByteCount(pub u64);

impl fmt::Display for ByteCount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [&str; 7] = ["bytes", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
        let mut unit = 0;
        while self.0 >> (10 * unit) >= 10 * 1024 || (unit == 0 && self.0 >= 1024) {
            unit += 1;
        }
        write!(f, "{} {}", self.0 >> (10 * unit), UNITS[unit])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_up_to_the_limit_can_be_taken() {
        let exceeded =
            |result: Result<()>| *result.unwrap_err().downcast_ref::<QuotaExceeded>().unwrap();
        let mut quota = UnpackQuota::new(10, 3);
        quota.take(4).unwrap();
        quota.take(6).unwrap();
        quota.take(0).unwrap();
        assert_eq!(exceeded(quota.take(0)), QuotaExceeded::Entries { limit: 3 });
        let mut quota = UnpackQuota::new(10, 3);
        quota.take(4).unwrap();
        assert_eq!(exceeded(quota.take(u64::MAX)), QuotaExceeded::Bytes { limit: 10 });
        let here = || std::fs::File::open(".").unwrap().into();
        UnpackQuota::unlimited().leaving(0, here()).take(1).unwrap();
        let full = UnpackQuota::unlimited().leaving(u64::MAX, here()).take(1);
        assert!(matches!(exceeded(full), QuotaExceeded::Room { floor: u64::MAX, .. }));
        let huge = UnpackQuota::unlimited().leaving(0, here()).take(u64::MAX);
        assert!(matches!(exceeded(huge), QuotaExceeded::Room { .. }));
    }

    #[test]
    fn sizes_are_short_and_not_rounded_to_nothing() {
        for (bytes, text) in [
            (0, "0 bytes"),
            (1023, "1023 bytes"),
            (1024, "1 KiB"),
            (10 << 10, "10 KiB"),
            (300 << 20, "300 MiB"),
            (16 << 30, "16 GiB"),
            (u64::MAX, "15 EiB"),
        ] {
            assert_eq!(ByteCount(bytes).to_string(), text);
        }
    }
}
