//! A template while it is made.

use std::fs::{self, OpenOptions, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::info::{DISK, FILES, INFO, MEMORY, STATE, mark_used};
use super::shape::TemplateShape;
use crate::host::lock::FileLock;
use crate::host::{atomic_file, clock, directory, sparse};
use crate::image::FileInfo;
use crate::image::digest_cache::DigestCache;
use crate::model::{FrozenFiles, Refusal, RefusalKind};
use crate::sys::file_system;

/// A new template, which no other command can make or use while this value lives. Dropping it before it is
/// completed deletes it.
#[derive(Debug)]
pub struct TemplateDraft {
    shape: TemplateShape,
    directory: PathBuf,
    place: PathBuf,
    /// What is wrong with the existing template.
    why: Option<String>,
    _lock: FileLock,
}

impl TemplateDraft {
    pub(super) fn create(
        shape: &TemplateShape,
        directory: PathBuf,
        place: PathBuf,
        why: Option<String>,
        lock: FileLock,
    ) -> Result<TemplateDraft> {
        directory::create_new(&directory)?;
        Ok(TemplateDraft { shape: shape.clone(), directory, place, why, _lock: lock })
    }

    /// What is wrong with the existing template, if there is one.
    pub fn why(&self) -> Option<&str> {
        self.why.as_deref()
    }

    /// The paths of its files.
    pub fn files(&self) -> FrozenFiles {
        files_in(&self.directory)
    }

    /// Makes the files that a VM needs to boot into: memory of this size, and a disk.
    ///
    /// A VMM that runs as another user reaches them through open files or mounts, because it cannot enter
    /// their directory.
    ///
    /// # Errors
    /// `Host` if the disk has no space for the whole memory: a VMM that cannot write its guest's memory dies
    /// without a message.
    pub fn prepare(&self, mem_mib: u32, disk_seed: &Path) -> Result<()> {
        let files = self.files();
        let free =
            file_system::free_at(&self.directory).context("cannot look at the templates' disk")?;
        let free_mib = free >> 20;
        if free_mib < u64::from(mem_mib) {
            let message =
                format!("a template takes up to {mem_mib} MiB, and {free_mib} MiB are free");
            return Err(Refusal::new(RefusalKind::Host, message).into());
        }
        let memory =
            OpenOptions::new().write(true).create_new(true).open(&files.memory).and_then(|file| {
                file.set_permissions(Permissions::from_mode(0o666))?;
                file.set_len(u64::from(mem_mib) << 20)
            });
        memory.with_context(|| format!("cannot create {}", files.memory.display()))?;
        sparse::clone_file(disk_seed, &files.disk)
    }

    /// Writes the description of the complete files, and puts the template in place.
    pub fn complete(self, vmm_version: String) -> Result<()> {
        let mut info = self.shape.description.clone();
        info.vmm_version = vmm_version;
        info.made_at = clock::unix_time().as_secs_f64();
        let mut cache = DigestCache::load_of_boot(&self.directory, &clock::boot_id()?);
        for (name, method) in FILES {
            let digest = cache.digest(name, &self.directory.join(name), method, None)?;
            info.files
                .insert(name.to_owned(), FileInfo { size: digest.size, digest: digest.value });
        }
        cache.save(&self.directory)?;
        atomic_file::write_new(&self.directory.join(INFO), info.to_text()?.as_bytes())?;
        mark_used(&self.directory)?;
        directory::remove(&self.place)?;
        fs::rename(&self.directory, &self.place)
            .with_context(|| format!("cannot put {} in place", self.place.display()))
    }
}

impl Drop for TemplateDraft {
    fn drop(&mut self) {
        let _ = directory::remove(&self.directory);
    }
}

pub(super) fn files_in(directory: &Path) -> FrozenFiles {
    FrozenFiles {
        memory: directory.join(MEMORY),
        state: directory.join(STATE),
        disk: directory.join(DISK),
    }
}
