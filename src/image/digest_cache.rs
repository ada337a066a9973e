//! `verified.json`: digests of an image's files, so that starting a VM need not read hundreds of megabytes.
//! A file whose metadata is unchanged is trusted; any other is read. docs/adr/0005-images.md says what
//! this does not protect from.

use std::collections::BTreeMap;
use std::fs::{self, Metadata, OpenOptions};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use super::digest::{self, DigestMethod};
use super::info::FileInfo;
use crate::host::{atomic_file, clock, directory, input};
use crate::model::BootId;

pub const VERIFIED: &str = "verified.json";

/// Metadata that changes with a file's content: a write sets `ctime`, which no ordinary program can set
/// back, and a replacement has another inode.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileStamp {
    size: u64,
    mtime_ns: i64,
    ctime_ns: i64,
    dev: u64,
    ino: u64,
}

impl FileStamp {
    fn of(meta: &Metadata) -> FileStamp {
        // Nanoseconds since 1970 fit until 2262.
        let ns = |seconds: i64, ns: i64| seconds.saturating_mul(1_000_000_000).saturating_add(ns);
        FileStamp {
            size: meta.len(),
            mtime_ns: ns(meta.mtime(), meta.mtime_nsec()),
            ctime_ns: ns(meta.ctime(), meta.ctime_nsec()),
            dev: meta.dev(),
            ino: meta.ino(),
        }
    }
}

/// A file's metadata and digest at one time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Entry {
    stamp: FileStamp,
    digest: String,
}

/// The digests of a directory's files. If the cache is missing or damaged, the files are read again.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct DigestCache {
    /// By file name.
    entries: BTreeMap<String, Entry>,
    /// The boot of the host in which they were taken, if it matters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    boot: Option<BootId>,
    #[serde(skip)]
    changed: bool,
}

impl DigestCache {
    /// The cache in `directory`; empty if it is missing or damaged.
    pub fn load(directory: &Path) -> DigestCache {
        let read = || -> Result<DigestCache> {
            Ok(serde_json::from_slice(&input::read_regular(&directory.join(VERIFIED))?)?)
        };
        read().unwrap_or_default()
    }

    /// The cache in `directory`, which is empty after a reboot of the host: for files that were never synced,
    /// and may have lost their content in a power cut.
    pub fn load_of_boot(directory: &Path, boot: &BootId) -> DigestCache {
        let cache = DigestCache::load(directory);
        if cache.boot.as_ref() == Some(boot) {
            return cache;
        }
        DigestCache { boot: Some(boot.clone()), ..DigestCache::default() }
    }

    /// The digest of the file at `path`, known as `name`: the cached one if the file is unchanged and that digest is
    /// `expected`. Any other is no reason to refuse the file, only to read it: the cache may be damaged.
    ///
    /// A file that changes twice in one tick of the clock has the same metadata after both, so a digest is
    /// only cached if the file is older than the tick in which it was taken.
    pub fn digest(
        &mut self,
        name: &str,
        path: &Path,
        method: DigestMethod,
        expected: Option<&str>,
    ) -> Result<FileDigest> {
        let context = || format!("cannot read {}", path.display());
        let now = clock::file_time()?;
        let file = OpenOptions::new()
            .read(true)
            .custom_flags(nix::libc::O_NOFOLLOW)
            .open(path)
            .with_context(context)?;
        let stamp = FileStamp::of(&file.metadata().with_context(context)?);
        if let Some(entry) = self.entries.get(name)
            && entry.stamp == stamp
            && expected == Some(&entry.digest)
        {
            return Ok(FileDigest { value: entry.digest.clone(), size: stamp.size, read: false });
        }
        let value = digest::of_file(&file, method).with_context(context)?;
        // If the file was written to meanwhile, the digest is that of no version of it.
        let held_still = FileStamp::of(&file.metadata().with_context(context)?) == stamp;
        if held_still && i128::from(stamp.ctime_ns) < i128::try_from(now.as_nanos())? {
            self.entries.insert(name.to_owned(), Entry { stamp, digest: value.clone() });
            self.changed = true;
        }
        Ok(FileDigest { value, size: stamp.size, read: true })
    }

    /// Writes the cache, if it has changed. Of several commands at once, the last one wins.
    pub fn save(&self, directory: &Path) -> Result<()> {
        static COUNTER: AtomicU32 = AtomicU32::new(0);
        if !self.changed {
            return Ok(());
        }
        // Left by killed commands. One that is writing now loses its file, and another will write it again.
        for name in directory::names(directory)? {
            if name.starts_with(&format!(".{VERIFIED}.")) {
                atomic_file::remove_if_there(&directory.join(name))?;
            }
        }
        let count = COUNTER.fetch_add(1, Ordering::Relaxed);
        let temporary = directory.join(format!(".{VERIFIED}.{}.{count}", std::process::id()));
        let write = || -> Result<()> {
            let file =
                OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
            serde_json::to_writer_pretty(file, self)?;
            fs::rename(&temporary, directory.join(VERIFIED))?;
            Ok(())
        };
        let written = write();
        if written.is_err() {
            let _ = fs::remove_file(&temporary);
        }
        written.context("cannot write verified.json")
    }
}

/// A file's digest, and whether it was cached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileDigest {
    pub value: String,
    /// Bytes.
    pub size: u64,
    /// Whether the file had to be read.
    pub read: bool,
}

impl FileDigest {
    /// Whether the file is the recorded one.
    pub fn is_of(&self, recorded: Option<&FileInfo>) -> bool {
        recorded.is_some_and(|file| (&file.digest, file.size) == (&self.value, self.size))
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::time::Duration;

    use super::*;

    /// Longer than a tick of the clock that stamps files (4 ms on Debian's kernels, 10 at most).
    fn tick() {
        std::thread::sleep(Duration::from_millis(25));
    }

    fn read(directory: &Path) -> bool {
        let mut verified = DigestCache::load(directory);
        let path = directory.join("file");
        // What the cache holds is expected, so that only the metadata decides.
        let expected = verified.entries.get("file").map(|entry| entry.digest.clone());
        let digest =
            verified.digest("file", &path, DigestMethod::Whole, expected.as_deref()).unwrap();
        verified.save(directory).unwrap();
        assert_eq!(digest.value, digest::of_bytes(&fs::read(path).unwrap()));
        digest.read
    }

    #[test]
    fn an_unchanged_file_is_read_once() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("file"), "content").unwrap();
        tick();
        assert!(read(dir.path()));
        assert!(!read(dir.path()));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2);
    }

    #[test]
    fn every_change_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        let changes: [&dyn Fn(); 4] = [
            &|| fs::write(&path, "CONTENT").unwrap(),
            &|| {
                fs::write(path.with_extension("new"), "content").unwrap();
                fs::rename(path.with_extension("new"), &path).unwrap();
            },
            // The content changes, and the time of the change is set back, as with `touch -d`.
            &|| {
                let before = fs::metadata(&path).unwrap().modified().unwrap();
                fs::write(&path, "Content").unwrap();
                File::options().write(true).open(&path).unwrap().set_modified(before).unwrap();
            },
            &|| fs::write(&path, "longer content").unwrap(),
        ];
        fs::write(&path, "content").unwrap();
        tick();
        for change in changes {
            read(dir.path());
            assert!(!read(dir.path()));
            change();
            tick();
            assert!(read(dir.path()));
        }
    }

    #[test]
    fn a_change_in_the_tick_of_the_verification_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        for n in 0..50 {
            fs::write(dir.path().join("file"), format!("{n:03}")).unwrap();
            read(dir.path());
            fs::write(dir.path().join("file"), format!("{:03}", n + 500)).unwrap();
            read(dir.path());
        }
    }

    #[test]
    fn a_killed_command_leaves_its_cache_only_until_the_next() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("file"), "content").unwrap();
        fs::write(dir.path().join(".verified.json.77.0"), "{").unwrap();
        tick();
        assert!(read(dir.path()));
        assert_eq!(directory::names(dir.path()).unwrap(), ["file", VERIFIED]);
    }

    #[test]
    fn a_damaged_cache_is_no_cache() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("file"), "content").unwrap();
        tick();
        read(dir.path());
        for bad in ["", "{", "[]", r#"{"entries":{"file":{"digest":"x"}}}"#] {
            fs::write(dir.path().join(VERIFIED), bad).unwrap();
            assert!(read(dir.path()));
        }
    }
}
