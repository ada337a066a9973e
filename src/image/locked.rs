//! An image in hand.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::digest_cache::DigestCache;
use super::info::{self, DISK, FILES, INITRD, ImageInfo, KERNEL, MODULES, ROOTFS};
use crate::host::lock::FileLock;
use crate::model::BootFiles;

/// An image that nobody can replace or delete as long as this value lives. Let go of it once the VMM
/// has opened the files: a rebuild waits for that.
#[derive(Debug)]
pub struct LockedImage {
    dir: PathBuf,
    info: ImageInfo,
    _shared: FileLock,
}

/// How an image was found to be right.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ImageVerification {
    /// Every file looks as it did when its digest was last taken.
    Unchanged,
    /// At least one file was read in full, and has the right digest.
    Read,
}

impl LockedImage {
    pub(super) fn new(dir: PathBuf, info: ImageInfo, shared: FileLock) -> LockedImage {
        LockedImage { dir, info, _shared: shared }
    }

    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// What `image.json` says.
    pub fn info(&self) -> &ImageInfo {
        &self.info
    }

    /// Identifies kernel, root file system and empty disk: 64 hexadecimal digits.
    pub fn id(&self) -> String {
        self.info.id()
    }

    /// The digest of the agent in the initrd.
    pub fn agent_digest(&self) -> &str {
        &self.info.agent.digest
    }

    /// The unpacked kernel, an ELF file.
    pub fn kernel(&self) -> PathBuf {
        self.dir.join(KERNEL)
    }

    pub fn initrd(&self) -> PathBuf {
        self.dir.join(INITRD)
    }

    /// The read-only root file system, raw ext4.
    pub fn rootfs(&self) -> PathBuf {
        self.dir.join(ROOTFS)
    }

    /// What each VM's own disk starts as, raw ext4; see [`crate::host::sparse::clone_file`].
    pub fn disk_seed(&self) -> PathBuf {
        self.dir.join(DISK)
    }

    /// MiB of each VM's own disk.
    pub fn disk_mib(&self) -> Result<u32> {
        let length = std::fs::metadata(self.disk_seed()).context("cannot look at the disk")?.len();
        Ok(u32::try_from(length >> 20)?)
    }

    /// The files a VMM opens.
    pub fn boot_files(&self) -> BootFiles {
        BootFiles { kernel: self.kernel(), initrd: self.initrd(), rootfs: self.rootfs() }
    }

    /// Makes sure that what is about to boot is what was built. Costs a few microseconds where no file
    /// has changed since the last time, else what reading the changed ones takes.
    ///
    /// Errors: `Host` when a file is gone or has another content, with the way to a new image.
    pub fn verify(&self) -> Result<ImageVerification> {
        verify(&self.dir, &self.info)
    }
}

/// See [`LockedImage::verify`].
pub(super) fn verify(dir: &Path, info: &ImageInfo) -> Result<ImageVerification> {
    let mut verified = DigestCache::load(dir);
    let mut how = ImageVerification::Unchanged;
    for (name, ..) in FILES.iter().filter(|(name, ..)| *name != MODULES) {
        if check(dir, info, &mut verified, name)? {
            how = ImageVerification::Read;
        }
    }
    // A cache: on a full disk the next start reads the files again.
    let _ = verified.save(dir);
    Ok(how)
}

/// Checks one file; true if it had to be read.
pub(super) fn check(
    dir: &Path,
    info: &ImageInfo,
    verified: &mut DigestCache,
    name: &str,
) -> Result<bool> {
    let method = FILES.iter().find(|file| file.0 == name).expect("a file of an image").1;
    let digest = verified
        .digest(name, &dir.join(name), method)
        .map_err(|error| info::damaged(dir, &format!("{error:#}")))?;
    if !digest.is_of(info.files.get(name)) {
        return Err(info::damaged(dir, &format!("{name} is not the file that was built")).into());
    }
    Ok(digest.read)
}
