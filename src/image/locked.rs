//! An image that is in use.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::digest_cache::DigestCache;
use super::info::{self, DISK, FILES, INITRD, ImageInfo, KERNEL, MODULES, ROOTFS};
use crate::host::lock::FileLock;
use crate::model::BootFiles;

/// An image that cannot be replaced or deleted while this value lives. Drop it once the VMM has opened the
/// files: a rebuild waits for that.
#[derive(Debug)]
pub struct LockedImage {
    dir: PathBuf,
    info: ImageInfo,
    _shared: FileLock,
}

/// How an image was verified.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ImageVerification {
    /// No file has changed since its digest was taken.
    Unchanged,
    /// At least one file was read, and has the right digest.
    Read,
}

impl LockedImage {
    pub(super) fn new(dir: PathBuf, info: ImageInfo, shared: FileLock) -> LockedImage {
        LockedImage { dir, info, _shared: shared }
    }

    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The content of `image.json`.
    pub fn info(&self) -> &ImageInfo {
        &self.info
    }

    /// See [`ImageInfo::id`].
    pub fn id(&self) -> String {
        self.info.id()
    }

    /// The initial content of each VM's disk, raw ext4; see [`crate::host::sparse::clone_file`].
    pub fn disk_seed(&self) -> PathBuf {
        self.dir.join(DISK)
    }

    /// MiB of each VM's disk.
    pub fn disk_mib(&self) -> Result<u32> {
        let length = std::fs::metadata(self.disk_seed()).context("cannot look at the disk")?.len();
        Ok(u32::try_from(length >> 20)?)
    }

    /// The files a VMM opens.
    pub fn boot_files(&self) -> BootFiles {
        let [kernel, initrd, rootfs] = [KERNEL, INITRD, ROOTFS].map(|name| self.dir.join(name));
        BootFiles { kernel, initrd, rootfs }
    }

    /// Checks that the files are those that were built. Takes microseconds if no file has changed since the
    /// last time; changed ones are read.
    ///
    /// # Errors
    /// `Host`, with a remedy, if a file is gone or has another content.
    pub fn verify(&self) -> Result<ImageVerification> {
        let mut cache = DigestCache::load(&self.dir);
        let mut verification = ImageVerification::Unchanged;
        for (name, ..) in FILES.iter().filter(|(name, ..)| *name != MODULES) {
            if check(&self.dir, &self.info, &mut cache, name)? {
                verification = ImageVerification::Read;
            }
        }
        // It is only a cache: if the disk is full, the next start reads the files again.
        let _ = cache.save(&self.dir);
        Ok(verification)
    }
}

/// Checks one file; true if it had to be read.
pub(super) fn check(
    dir: &Path,
    info: &ImageInfo,
    cache: &mut DigestCache,
    name: &str,
) -> Result<bool> {
    let method = FILES.iter().find(|file| file.0 == name).expect("a file of an image").1;
    let recorded = info.files.get(name);
    let expected = recorded.map(|file| file.digest.as_str());
    let digest = cache
        .digest(name, &dir.join(name), method, expected)
        .map_err(|error| info::damaged(dir, &format!("{error:#}")))?;
    if !digest.is_of(recorded) {
        return Err(info::damaged(dir, &format!("{name} is not the file that was built")).into());
    }
    Ok(digest.read)
}
