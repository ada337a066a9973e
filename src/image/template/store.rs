//! The templates directory: templates found, claimed, listed, deleted.
//!
//! One lock a template, `.<name>.lock`: shared by whoever starts a VM from it, for as long as that takes,
//! and held alone by whoever makes or deletes it. VMs that run hold nothing: their VMMs have the files
//! open, and keep them even where a template is deleted. What a killed command leaves is a
//! `.making-<name>-…` directory whose template's lock is free.

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use super::draft::{Draft, files_in};
use super::info::{FILES, TemplateInfo};
use super::shape::Shape;
use crate::host::lock::{Lock, busy};
use crate::host::{clock, directory, random};
use crate::image::verified::Verified;
use crate::model::FrozenFiles;

/// Begins the name of a directory that is on its way in or out.
const MAKING: &str = ".making-";

/// Its time of modification is when the template was last used.
const USED: &str = "used";

/// The templates of one artifacts directory.
#[derive(Debug)]
pub struct Templates {
    root: PathBuf,
}

/// A template that was checked, and that nobody can delete or replace as long as this value lives.
#[derive(Debug)]
pub struct Template {
    directory: PathBuf,
    info: TemplateInfo,
    _shared: Lock,
}

/// What came of asking for a template.
#[derive(Debug)]
pub enum Claim {
    /// Here it is.
    Ready(Template),
    /// There is none that will do, and the caller is the one to make it.
    Make(Draft),
    /// Somebody is making it, or about to delete it. Ask again.
    Wait,
}

/// A template in a list.
#[derive(Debug, Clone, PartialEq)]
pub struct Listed {
    pub name: String,
    /// `None` where its description cannot be read.
    pub info: Option<TemplateInfo>,
    /// Bytes it takes on the disk.
    pub bytes: u64,
    /// Unix seconds.
    pub last_used: f64,
}

impl Template {
    pub fn name(&self) -> &str {
        &self.info.name
    }

    pub fn files(&self) -> FrozenFiles {
        files_in(&self.directory)
    }
}

impl Templates {
    /// The templates in `artifacts`, whose place is made if need be.
    ///
    /// Errors: `Host` when the directory is somebody else's or writable by others.
    pub fn open(artifacts: &Path) -> Result<Templates> {
        let root = artifacts.join("templates");
        directory::ensure_private(&root)?;
        Ok(Templates { root: std::path::absolute(root)? })
    }

    /// The template of this shape, or the right to make it. Waits for nobody.
    pub fn claim(&self, shape: &Shape) -> Result<Claim> {
        let name = shape.name();
        let place = self.root.join(&name);
        let Some(shared) = Lock::try_share(&self.lock(&name))? else { return Ok(Claim::Wait) };
        match check(&place, shape) {
            Ok(Some(info)) => {
                mark_used(&place)?;
                return Ok(Claim::Ready(Template { directory: place, info, _shared: shared }));
            }
            Ok(None) | Err(_) => drop(shared),
        }
        let Some(lock) = Lock::try_acquire(&self.lock(&name))? else { return Ok(Claim::Wait) };
        // Again, because somebody may have made it since.
        let why = match check(&place, shape) {
            Ok(Some(_)) => return Ok(Claim::Wait),
            Ok(None) => None,
            Err(why) => Some(format!("{why:#}")),
        };
        let draft = Draft::create(shape, self.scratch(&name)?, place, why, lock)?;
        Ok(Claim::Make(draft))
    }

    /// All templates, by name, the damaged ones too.
    pub fn list(&self) -> Result<Vec<Listed>> {
        let names = directory::names(&self.root)?;
        let list = names.into_iter().filter(|name| !name.starts_with('.')).map(|name| {
            let place = self.root.join(&name);
            Listed {
                info: TemplateInfo::read(&place).ok().flatten(),
                bytes: disk_usage(&place),
                last_used: last_used(&place),
                name,
            }
        });
        Ok(list.collect())
    }

    /// Deletes a template; false if there was none.
    ///
    /// Errors: `Busy` while it is being made, or a VM is being started from it.
    pub fn remove(&self, name: &str) -> Result<bool> {
        let place = self.root.join(name);
        if name.starts_with('.') || name.contains('/') || place.symlink_metadata().is_err() {
            return Ok(false);
        }
        let path = self.lock(name);
        let Some(lock) = Lock::try_acquire(&path)? else {
            return Err(busy(&path, &format!("template {name}")).into());
        };
        // First out of sight, then deleted: nobody ever sees a part of it.
        let scratch = self.scratch(name)?;
        fs::rename(&place, &scratch).with_context(|| format!("cannot move {}", place.display()))?;
        directory::remove(&scratch)?;
        lock.remove()?;
        Ok(true)
    }

    /// The templates that nobody has used for longer than `limit`.
    pub fn unused(&self, limit: Duration) -> Result<Vec<String>> {
        let now = clock::unix_time().as_secs_f64();
        let unused = |listed: &Listed| now - listed.last_used > limit.as_secs_f64();
        Ok(self.list()?.into_iter().filter(unused).map(|listed| listed.name).collect())
    }

    /// What killed commands have left; with `dry_run` it is only found. Returns what that was.
    pub fn sweep(&self, dry_run: bool) -> Result<Vec<PathBuf>> {
        let mut swept = Vec::new();
        for entry in directory::names(&self.root)? {
            let Some(name) = entry.strip_prefix(MAKING).and_then(|rest| rest.rsplit_once('-'))
            else {
                continue;
            };
            // Free: whoever made the directory held this lock, and is dead.
            let Some(lock) = Lock::try_acquire(&self.lock(name.0))? else { continue };
            let path = self.root.join(&entry);
            if !dry_run {
                directory::remove(&path)?;
            }
            if !self.root.join(name.0).exists() {
                lock.remove()?;
            }
            swept.push(path);
        }
        Ok(swept)
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
fn check(place: &Path, shape: &Shape) -> Result<Option<TemplateInfo>> {
    let Some(info) = TemplateInfo::read(place)? else { return Ok(None) };
    ensure!(info.shape == shape.text(), "it is of another shape");
    let mut verified = Verified::load_of_boot(place, &clock::boot_id()?);
    for (name, method) in FILES {
        let digest = verified.digest(name, &place.join(name), method)?;
        let right = info
            .files
            .get(name)
            .is_some_and(|file| (&file.digest, file.size) == (&digest.value, digest.size));
        if !right {
            bail!("{name} is not what was frozen");
        }
    }
    // A cache: on a full disk the next start reads the files again.
    let _ = verified.save(place);
    Ok(Some(info))
}

/// Notes that the template in `directory` is used now.
pub fn mark_used(directory: &Path) -> Result<()> {
    let path = directory.join(USED);
    let marked = File::create(&path)
        .and_then(|file| file.set_modified(std::time::UNIX_EPOCH + clock::unix_time()));
    marked.with_context(|| format!("cannot mark {}", path.display()))
}

fn last_used(directory: &Path) -> f64 {
    let time = fs::metadata(directory.join(USED)).map(|about| about.mtime() as f64);
    time.unwrap_or_default()
}

fn disk_usage(directory: &Path) -> u64 {
    let names = directory::names(directory).unwrap_or_default();
    // Blocks of 512 bytes, whatever the file system's own are.
    let sizes = names
        .iter()
        .filter_map(|name| Some(fs::symlink_metadata(directory.join(name)).ok()?.blocks() * 512));
    sizes.sum()
}
