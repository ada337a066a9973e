//! The supported versions of Firecracker and its jailer.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use anyhow::Result;

use crate::host::which;
use crate::model::{Refusal, RefusalKind};

/// A release of Firecracker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct FirecrackerVersion(u32, u32, u32);

/// The first version with ACPI tables (Firecracker's changelog, 1.8.0): Debian's kernel finds virtio
/// devices no other way.
const FIRST_WITH_ACPI: FirecrackerVersion = FirecrackerVersion(1, 8, 0);

/// The first versions without CVE-2026-1386, of two release branches.
const JAILER_FIXED: [FirecrackerVersion; 2] =
    [FirecrackerVersion(1, 13, 2), FirecrackerVersion(1, 14, 1)];

impl FirecrackerVersion {
    /// The version of a program; `None` if it prints none. Cached, because `run` checks it when it
    /// creates a VM and again when it starts it.
    ///
    /// # Errors
    /// The program cannot be run.
    pub fn of(program: &Path) -> Result<Option<FirecrackerVersion>> {
        static CACHE: Mutex<BTreeMap<PathBuf, Option<FirecrackerVersion>>> =
            Mutex::new(BTreeMap::new());
        let mut cache = CACHE.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(version) = cache.get(program) {
            return Ok(*version);
        }
        let version = FirecrackerVersion::parse(&which::output(program, &["--version"])?);
        cache.insert(program.to_owned(), version);
        Ok(version)
    }

    /// Parses `Firecracker v1.12.1`, followed by anything.
    fn parse(printed: &str) -> Option<FirecrackerVersion> {
        let word =
            printed.lines().next()?.split_whitespace().find_map(|word| word.strip_prefix('v'))?;
        let mut numbers = word.split(['.', '-', '+']).map(str::parse);
        let mut next = || numbers.next()?.ok();
        Some(FirecrackerVersion(next()?, next()?, next()?))
    }

    /// Refuses a Firecracker that cannot boot our images.
    pub fn check(self) -> Result<(), Refusal> {
        if self >= FIRST_WITH_ACPI {
            return Ok(());
        }
        let needed = FIRST_WITH_ACPI;
        let message = format!("firecracker {self} is too old: mayfly needs {needed} or newer");
        Err(Refusal::new(RefusalKind::Host, message)
            .hint("install a newer release, and name it with MAYFLY_FIRECRACKER_BIN"))
    }

    /// Whether a local user can make a jailer of this version overwrite files of the host, by a
    /// symbolic link prepared in its jail.
    pub fn jailer_follows_links(self) -> bool {
        let [older, newer] = JAILER_FIXED;
        self < older || (self >= FirecrackerVersion(1, 14, 0) && self < newer)
    }
}

impl fmt::Display for FirecrackerVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.0, self.1, self.2)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(text: &str) -> FirecrackerVersion {
        FirecrackerVersion::parse(&format!("Firecracker v{text}\n\nexiting successfully")).unwrap()
    }

    #[test]
    fn versions_are_read_as_they_are_printed() {
        assert_eq!(version("1.12.1"), FirecrackerVersion(1, 12, 1));
        assert_eq!(version("1.13.0-dev"), FirecrackerVersion(1, 13, 0));
        assert_eq!(
            FirecrackerVersion::parse("Jailer v1.12.1\n"),
            Some(FirecrackerVersion(1, 12, 1))
        );
        for invalid in ["", "Firecracker", "v1.2", "version 1.2.3", "v1.x.3"] {
            assert_eq!(FirecrackerVersion::parse(invalid), None, "{invalid:?}");
        }
    }

    #[test]
    fn too_old_ones_are_refused() {
        version("1.8.0").check().unwrap();
        version("1.12.1").check().unwrap();
        let refusal = version("1.7.9").check().unwrap_err();
        assert!(refusal.message.contains("1.7.9") && refusal.message.contains("1.8.0"));
    }

    #[test]
    fn vulnerable_jailers_are_known() {
        let vulnerable = ["1.0.0", "1.12.1", "1.13.1", "1.14.0"];
        let fixed = ["1.13.2", "1.13.3", "1.14.1", "1.16.1", "2.0.0"];
        assert!(vulnerable.iter().all(|text| version(text).jailer_follows_links()));
        assert!(!fixed.iter().any(|text| version(text).jailer_follows_links()));
    }
}
