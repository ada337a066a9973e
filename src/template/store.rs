//! The templates directory: templates found, claimed, listed, deleted.
//!
//! Each template has a lock, `.<name>.lock`. It is shared by the commands that are starting VMs from it, and
//! exclusive to the command that makes or deletes it. Running VMs hold none: their VMMs have the files open,
//! and keep them even if the template is deleted. A killed command leaves a `.making-<name>-…` directory,
//! and the template's lock is then free.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};

use super::draft::{TemplateDraft, files_in};
use super::info::{FILES, TemplateInfo, last_used, mark_used};
use super::shape::TemplateShape;
use crate::host::lock::FileLock;
use crate::host::{atomic_file, clock, directory};
use crate::image::digest_cache::DigestCache;
use crate::model::layout::TEMPLATES;
use crate::model::{FrozenFiles, Refusal, RefusalKind};
use crate::sys::random;

/// Begins the name of a directory that is being made or deleted.
const MAKING: &str = ".making-";

/// The templates in one directory.
#[derive(Debug)]
pub struct TemplateStore {
    root: PathBuf,
}

/// A template that was checked, and cannot be deleted or replaced while this value lives.
#[derive(Debug)]
pub struct LockedTemplate {
    directory: PathBuf,
    info: TemplateInfo,
    _shared: FileLock,
}

/// The result of asking for a template.
#[derive(Debug)]
pub enum TemplateClaim {
    /// It exists.
    Ready(LockedTemplate),
    /// It is missing or damaged, and the caller must make it.
    Make(TemplateDraft),
    /// Another command is making or deleting it. Ask again.
    Wait,
}

/// A template in a list.
#[derive(Debug, Clone, PartialEq)]
pub struct ListedTemplate {
    pub name: String,
    /// `None` if it cannot be read, or a file does not have the recorded size.
    pub info: Option<TemplateInfo>,
    /// Bytes on the disk.
    pub bytes: u64,
    /// Unix seconds; 0 if unknown.
    pub last_used: f64,
}

impl LockedTemplate {
    pub fn name(&self) -> &str {
        &self.info.name
    }

    pub fn files(&self) -> FrozenFiles {
        files_in(&self.directory)
    }
}

impl TemplateStore {
    /// The templates in the directory `base`; a missing directory is created.
    ///
    /// # Errors
    /// `Host` if another user owns the directory or can write to it.
    pub fn open(base: &Path) -> Result<TemplateStore> {
        let root = base.join(TEMPLATES);
        directory::ensure_private(&root)?;
        Ok(TemplateStore { root: std::path::absolute(root)? })
    }

    /// The template of this shape, or the right to make it. Waits for no lock.
    pub fn claim(&self, shape: &TemplateShape) -> Result<TemplateClaim> {
        let name = shape.name();
        let place = self.root.join(name);
        let Some(shared) = FileLock::try_share(&self.lock(name))? else {
            return Ok(TemplateClaim::Wait);
        };
        match check(&place, shape) {
            Ok(Some(info)) => {
                mark_used(&place)?;
                return Ok(TemplateClaim::Ready(LockedTemplate {
                    directory: place,
                    info,
                    _shared: shared,
                }));
            }
            Ok(None) | Err(_) => drop(shared),
        }
        let Some(lock) = FileLock::try_acquire(&self.lock(name))? else {
            return Ok(TemplateClaim::Wait);
        };
        // Again, because another command may have made it since.
        let why = match check(&place, shape) {
            Ok(Some(_)) => return Ok(TemplateClaim::Wait),
            Ok(None) => None,
            Err(why) => Some(format!("{why:#}")),
        };
        self.clear_leftovers(name)?;
        let draft = TemplateDraft::create(shape, self.scratch(name)?, place, why, lock)?;
        Ok(TemplateClaim::Make(draft))
    }

    /// All templates by name, damaged ones included.
    pub fn list(&self) -> Result<Vec<ListedTemplate>> {
        let names = directory::names(&self.root)?;
        Ok(names.into_iter().filter_map(|name| self.look(name)).collect())
    }

    /// Deletes a template; false if there was none.
    ///
    /// # Errors
    /// `Busy` while it is being made, or a VM is being started from it.
    pub fn remove(&self, name: &str) -> Result<bool> {
        let path = self.lock(name);
        if !is_name(name) || (!self.is_there(name) && !path.exists()) {
            return Ok(false);
        }
        match FileLock::try_acquire(&path)? {
            Some(lock) => self.remove_locked(name, lock),
            // Without the other command's pid: a shared lock does not record it.
            None => Err(Refusal::new(
                RefusalKind::Busy,
                format!("template {name} is being made, or a VM is being started from it"),
            )
            .hint("try again when the other command has ended")
            .into()),
        }
    }

    /// Deletes the templates that are `useless` and not in use, or with `dry_run` only finds them, and returns
    /// them.
    pub fn prune(
        &self,
        useless: impl Fn(&ListedTemplate) -> bool,
        dry_run: bool,
    ) -> Result<Vec<ListedTemplate>> {
        let mut pruned = Vec::new();
        for listed in self.list()?.into_iter().filter(&useless) {
            let Some(lock) = FileLock::try_acquire(&self.lock(&listed.name))? else { continue };
            // Again, because another command may have used or rebuilt it before it was locked.
            if !self.look(listed.name.clone()).is_some_and(|listed| useless(&listed)) {
                continue;
            }
            if dry_run || self.remove_locked(&listed.name, lock)? {
                pruned.push(listed);
            }
        }
        Ok(pruned)
    }

    /// Deletes what killed commands have left, or with `dry_run` only finds it, and returns it.
    pub fn sweep(&self, dry_run: bool) -> Result<Vec<PathBuf>> {
        let mut swept = Vec::new();
        for entry in directory::names(&self.root)? {
            let Some(name) = made_for(&entry) else { continue };
            // The command that made the directory held this lock: if it is free, the command is dead.
            let Some(lock) = FileLock::try_acquire(&self.lock(name))? else { continue };
            let path = self.root.join(&entry);
            if !dry_run {
                directory::remove(&path)?;
                self.remove_lock_of_nothing(name, lock)?;
            }
            swept.push(path);
        }
        if !dry_run {
            self.sweep_locks()?;
        }
        Ok(swept)
    }

    /// Deletes what killed commands left of this template. The caller holds its lock.
    fn clear_leftovers(&self, name: &str) -> Result<()> {
        for entry in directory::names(&self.root)? {
            if made_for(&entry) == Some(name) {
                directory::remove(&self.root.join(entry))?;
            }
        }
        Ok(())
    }

    /// Deletes the locks of templates that do not exist.
    fn sweep_locks(&self) -> Result<()> {
        for entry in directory::names(&self.root)? {
            let name = entry.strip_prefix('.').and_then(|rest| rest.strip_suffix(".lock"));
            let Some(name) = name.filter(|name| is_name(name) && !self.is_there(name)) else {
                continue;
            };
            if let Some(lock) = FileLock::try_acquire(&self.lock(name))? {
                self.remove_lock_of_nothing(name, lock)?;
            }
        }
        Ok(())
    }

    fn remove_lock_of_nothing(&self, name: &str, lock: FileLock) -> Result<()> {
        if self.is_there(name) { Ok(()) } else { lock.remove() }
    }

    /// Deletes a template and its lock; false if there was none.
    fn remove_locked(&self, name: &str, lock: FileLock) -> Result<bool> {
        let place = self.root.join(name);
        let is_there = self.is_there(name);
        if is_there {
            // Renamed before it is deleted, so that a part of it is never seen.
            let scratch = self.scratch(name)?;
            fs::rename(&place, &scratch)
                .with_context(|| format!("cannot move {}", place.display()))?;
            // A power cut must not bring a template back that was said to be deleted.
            atomic_file::sync_directory_of(&place)?;
            directory::remove(&scratch)?;
        }
        lock.remove()?;
        Ok(is_there)
    }

    /// The template of that name, if there is one.
    fn look(&self, name: String) -> Option<ListedTemplate> {
        let place = self.root.join(&name);
        (is_name(&name) && place.is_dir()).then(|| ListedTemplate {
            info: TemplateInfo::read(&place).ok().flatten().filter(|info| is_whole(&place, info)),
            bytes: directory::usage(&place).bytes,
            last_used: last_used(&place),
            name,
        })
    }

    fn is_there(&self, name: &str) -> bool {
        self.root.join(name).symlink_metadata().is_ok()
    }

    fn lock(&self, name: &str) -> PathBuf {
        self.root.join(format!(".{name}.lock"))
    }

    /// A new name for a directory that the holder of the lock makes.
    fn scratch(&self, name: &str) -> Result<PathBuf> {
        Ok(self.root.join(format!("{MAKING}{name}-{}", random::hex::<4>()?)))
    }
}

/// The description of the template at `place`, if its files are as they were made; `None` if there is no
/// template.
///
/// Takes microseconds if no file has changed since it was last read in this boot of the host; other files are
/// read. Files are never synced, so a digest from an earlier boot proves nothing.
///
/// # Errors
/// What is wrong with the template.
fn check(place: &Path, shape: &TemplateShape) -> Result<Option<TemplateInfo>> {
    let Some(info) = TemplateInfo::read(place)? else { return Ok(None) };
    ensure!(info.shape == shape.text(), "it is of another shape");
    let mut cache = DigestCache::load_of_boot(place, &clock::boot_id()?);
    for (name, method) in FILES {
        let recorded = info.files.get(name);
        let expected = recorded.map(|file| file.digest.as_str());
        let digest = cache.digest(name, &place.join(name), method, expected)?;
        if !digest.is_of(recorded) {
            bail!("{name} is not what was frozen");
        }
    }
    // It is only a cache: if the disk is full, the next start reads the files again.
    let _ = cache.save(place);
    Ok(Some(info))
}

/// Whether every file of a template has the recorded size. Only a start checks the content.
fn is_whole(place: &Path, info: &TemplateInfo) -> bool {
    FILES.iter().all(|(name, _)| {
        let about = fs::symlink_metadata(place.join(name));
        let recorded = info.files.get(*name);
        about.is_ok_and(|about| recorded.is_some_and(|file| file.size == about.len()))
    })
}

/// The template of a directory that is being made or deleted; `None` for any other entry.
fn made_for(entry: &str) -> Option<&str> {
    Some(entry.strip_prefix(MAKING)?.rsplit_once('-')?.0)
}

/// Whether a template can have that name. Other files here begin with a dot.
fn is_name(name: &str) -> bool {
    !name.is_empty() && !name.starts_with('.') && !name.contains('/')
}
