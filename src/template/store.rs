//! The templates directory: templates found, claimed, listed, deleted.
//!
//! One lock a template, `.<name>.lock`: shared by whoever starts a VM from it, for as long as that takes,
//! and held alone by whoever makes or deletes it. VMs that run hold nothing: their VMMs have the files
//! open, and keep them even where a template is deleted. What a killed command leaves is a
//! `.making-<name>-…` directory whose template's lock is free.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};

use super::draft::{TemplateDraft, files_in};
use super::info::{FILES, TemplateInfo, last_used, mark_used};
use super::shape::TemplateShape;
use crate::host::lock::FileLock;
use crate::host::{clock, directory};
use crate::image::digest_cache::DigestCache;
use crate::model::layout::TEMPLATES;
use crate::model::{FrozenFiles, Refusal, RefusalKind};
use crate::sys::random;

/// Begins the name of a directory that is on its way in or out.
const MAKING: &str = ".making-";

/// The templates of one artifacts directory.
#[derive(Debug)]
pub struct TemplateStore {
    root: PathBuf,
}

/// A template that was checked, and that nobody can delete or replace as long as this value lives.
#[derive(Debug)]
pub struct LockedTemplate {
    directory: PathBuf,
    info: TemplateInfo,
    _shared: FileLock,
}

/// What came of asking for a template.
#[derive(Debug)]
pub enum TemplateClaim {
    /// Here it is.
    Ready(LockedTemplate),
    /// There is none that will do, and the caller is the one to make it.
    Make(TemplateDraft),
    /// Somebody is making it, or about to delete it. Ask again.
    Wait,
}

/// A template in a list.
#[derive(Debug, Clone, PartialEq)]
pub struct ListedTemplate {
    pub name: String,
    /// `None` where its description cannot be read, or a file is not as large as it says.
    pub info: Option<TemplateInfo>,
    /// Bytes it takes on the disk.
    pub bytes: u64,
    /// Unix seconds; 0 where nobody knows.
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
    /// The templates in `artifacts`, whose place is made if need be.
    ///
    /// Errors: `Host` when the directory is somebody else's or writable by others.
    pub fn open(artifacts: &Path) -> Result<TemplateStore> {
        let root = artifacts.join(TEMPLATES);
        directory::ensure_private(&root)?;
        Ok(TemplateStore { root: std::path::absolute(root)? })
    }

    /// The template of this shape, or the right to make it. Waits for nobody.
    pub fn claim(&self, shape: &TemplateShape) -> Result<TemplateClaim> {
        let name = shape.name();
        let place = self.root.join(&name);
        let Some(shared) = FileLock::try_share(&self.lock(&name))? else {
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
        let Some(lock) = FileLock::try_acquire(&self.lock(&name))? else {
            return Ok(TemplateClaim::Wait);
        };
        // Again, because somebody may have made it since.
        let why = match check(&place, shape) {
            Ok(Some(_)) => return Ok(TemplateClaim::Wait),
            Ok(None) => None,
            Err(why) => Some(format!("{why:#}")),
        };
        self.clear_leftovers(&name)?;
        let draft = TemplateDraft::create(shape, self.scratch(&name)?, place, why, lock)?;
        Ok(TemplateClaim::Make(draft))
    }

    /// All templates, by name, the damaged ones too.
    pub fn list(&self) -> Result<Vec<ListedTemplate>> {
        let names = directory::names(&self.root)?;
        Ok(names.into_iter().filter_map(|name| self.look(name)).collect())
    }

    /// Deletes a template; false if there was none.
    ///
    /// Errors: `Busy` while it is being made, or a VM is being started from it.
    pub fn remove(&self, name: &str) -> Result<bool> {
        let path = self.lock(name);
        if !is_name(name) || (!self.is_there(name) && !path.exists()) {
            return Ok(false);
        }
        match FileLock::try_acquire(&path)? {
            Some(lock) => self.remove_locked(name, lock),
            // Not with the name of a process: whoever starts from it leaves none.
            None => Err(Refusal::new(
                RefusalKind::Busy,
                format!("template {name} is being made, or a VM is being started from it"),
            )
            .hint("try again when the other command has ended")
            .into()),
        }
    }

    /// Deletes the templates that are `useless`, but for those that are being made or started from;
    /// with `dry_run` they are only found. Returns their names.
    pub fn prune(
        &self,
        useless: impl Fn(&ListedTemplate) -> bool,
        dry_run: bool,
    ) -> Result<Vec<String>> {
        let mut pruned = Vec::new();
        for name in self.list()?.into_iter().filter(&useless).map(|listed| listed.name) {
            let Some(lock) = FileLock::try_acquire(&self.lock(&name))? else { continue };
            // Again: somebody may have used it or made it anew before it was ours.
            if !self.look(name.clone()).is_some_and(|listed| useless(&listed)) {
                continue;
            }
            if dry_run || self.remove_locked(&name, lock)? {
                pruned.push(name);
            }
        }
        Ok(pruned)
    }

    /// What killed commands have left; with `dry_run` it is only found. Returns what that was.
    pub fn sweep(&self, dry_run: bool) -> Result<Vec<PathBuf>> {
        let mut swept = Vec::new();
        for entry in directory::names(&self.root)? {
            let Some(name) = made_for(&entry) else { continue };
            // Free: whoever made the directory held this lock, and is dead.
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

    /// What killed makers of this template left. The caller holds its lock alone.
    fn clear_leftovers(&self, name: &str) -> Result<()> {
        for entry in directory::names(&self.root)? {
            if made_for(&entry) == Some(name) {
                directory::remove(&self.root.join(entry))?;
            }
        }
        Ok(())
    }

    /// Locks that guard nothing: of templates that were not completed.
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

    /// The holder of the lock deletes a template, and the lock with it; false if there was none.
    fn remove_locked(&self, name: &str, lock: FileLock) -> Result<bool> {
        let place = self.root.join(name);
        let is_there = self.is_there(name);
        if is_there {
            // First out of sight, then deleted: nobody ever sees a part of it.
            let scratch = self.scratch(name)?;
            fs::rename(&place, &scratch)
                .with_context(|| format!("cannot move {}", place.display()))?;
            directory::remove(&scratch)?;
        }
        lock.remove()?;
        Ok(is_there)
    }

    /// What there is under a name.
    fn look(&self, name: String) -> Option<ListedTemplate> {
        let place = self.root.join(&name);
        (is_name(&name) && place.is_dir()).then(|| ListedTemplate {
            info: TemplateInfo::read(&place).ok().flatten().filter(|info| is_whole(&place, info)),
            bytes: disk_usage(&place),
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

    /// A new name for a directory of the holder of that lock.
    fn scratch(&self, name: &str) -> Result<PathBuf> {
        Ok(self.root.join(format!("{MAKING}{name}-{}", random::hex::<4>()?)))
    }
}

/// The description of the template at `place` if everything there is as it was made; `None` if there
/// is no template.
///
/// Costs some microseconds where no file has changed since it was last read in this boot of the host,
/// else what reading the changed ones takes. The files are never synced to the medium, so what was
/// read in an earlier boot proves nothing.
///
/// Errors: what is wrong with it.
fn check(place: &Path, shape: &TemplateShape) -> Result<Option<TemplateInfo>> {
    let Some(info) = TemplateInfo::read(place)? else { return Ok(None) };
    ensure!(info.shape == shape.text(), "it is of another shape");
    let mut verified = DigestCache::load_of_boot(place, &clock::boot_id()?);
    for (name, method) in FILES {
        let digest = verified.digest(name, &place.join(name), method)?;
        if !digest.is_of(info.files.get(name)) {
            bail!("{name} is not what was frozen");
        }
    }
    // A cache: on a full disk the next start reads the files again.
    let _ = verified.save(place);
    Ok(Some(info))
}

/// Whether every file of a template is there with its size. Whether its content is right, only a start
/// from it looks.
fn is_whole(place: &Path, info: &TemplateInfo) -> bool {
    FILES.iter().all(|(name, _)| {
        let about = fs::symlink_metadata(place.join(name));
        let recorded = info.files.get(*name);
        about.is_ok_and(|about| recorded.is_some_and(|file| file.size == about.len()))
    })
}

/// The template that a directory on its way in or out belongs to; `None` for any other entry.
fn made_for(entry: &str) -> Option<&str> {
    Some(entry.strip_prefix(MAKING)?.rsplit_once('-')?.0)
}

/// Whether a template can have that name. Other files here begin with a dot.
fn is_name(name: &str) -> bool {
    !name.is_empty() && !name.starts_with('.') && !name.contains('/')
}

fn disk_usage(directory: &Path) -> u64 {
    let names = directory::names(directory).unwrap_or_default();
    // Blocks of 512 bytes, whatever the file system's own are.
    let sizes = names
        .iter()
        .filter_map(|name| Some(fs::symlink_metadata(directory.join(name)).ok()?.blocks() * 512));
    sizes.sum()
}
