//! Transactions on the registry file, and the locks of VMs.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::contents::{RegistryContents, check_schema};
use super::mark_key;
use super::reserve::DiskReserve;
use super::version::FileVersion;
use crate::host::lock::FileLock;
use crate::host::process_marks::MarkKey;
use crate::host::{atomic_file, directory, ownership};
use crate::model::layout::{LOCKS, VMS};
use crate::model::{Refusal, RefusalKind, VmId, VmManifest};
use crate::sys::file_system::if_exists;

/// How long an update waits for the registry. Commands hold its lock for milliseconds, so this is enough
/// for thousands of them.
const REGISTRY_LIMIT: Duration = Duration::from_secs(20);

/// Whether an update's closure changed anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RegistryChange {
    /// It survives a power cut.
    Made,
    /// All commands see it, but a power cut may undo it. It only means something in this boot of the host.
    OfThisBoot,
    Nothing,
}

impl RegistryChange {
    /// A change of a VM's record. After a power cut, a VM that belongs to a command is deleted, whatever its record says.
    pub fn to(vm: &VmManifest) -> RegistryChange {
        if vm.owner.is_some() { RegistryChange::OfThisBoot } else { RegistryChange::Made }
    }
}

/// The registry of one state directory.
#[derive(Debug, Clone)]
pub struct Registry {
    state: PathBuf,
    /// What was last read or written, so that only a new version is parsed.
    seen: Arc<Mutex<Option<Seen>>>,
}

type Seen = (FileVersion, Arc<RegistryContents>);

/// Puts a new version of a file in place.
type Write = fn(&Path, &[u8]) -> Result<File>;

impl Registry {
    /// The registry below `state`; missing directories are created.
    ///
    /// # Errors
    /// `Host` if another user owns a directory or can write to it.
    pub fn open(state: &Path) -> Result<Registry> {
        directory::ensure_private(state)?;
        for part in [LOCKS, VMS] {
            directory::ensure_private(&state.join(part))?;
        }
        DiskReserve::of(state).ensure();
        let registry = Registry::at(state);
        if mark_key::read(state)?.is_none() {
            let _lock = registry.lock()?;
            if mark_key::read(state)?.is_none() {
                mark_key::make(state)?;
            }
        }
        Ok(registry)
    }

    /// The registry below `state` for a command that only reads. Creates no directory; a missing registry
    /// is empty.
    pub fn open_to_read(state: &Path) -> Result<Registry> {
        if state.symlink_metadata().is_ok() {
            directory::ensure_private(state)?;
        }
        Ok(Registry::at(state))
    }

    /// The registry below `state`, unchecked.
    pub fn at(state: &Path) -> Registry {
        Registry { state: state.to_owned(), seen: Arc::default() }
    }

    fn file(&self) -> PathBuf {
        self.state.join("registry.json")
    }

    /// Where a damaged registry is kept after it was replaced.
    fn damaged(&self) -> PathBuf {
        self.state.join("registry.json.damaged")
    }

    /// The content as of the last committed change; takes no lock.
    ///
    /// # Errors
    /// `Failure` if the registry is damaged or lost, or was written by a newer mayfly.
    pub fn read(&self) -> Result<Arc<RegistryContents>> {
        if let Some((version, contents)) = &*self.seen()
            && version.is_at(&self.file())
        {
            return Ok(Arc::clone(contents));
        }
        let parse = |(version, bytes): (FileVersion, Vec<u8>)| {
            let contents = RegistryContents::parse(&bytes)
                .with_context(|| format!("in {}", self.file().display()))?;
            let contents = Arc::new(contents);
            *self.seen() = Some((version, Arc::clone(&contents)));
            Ok(contents)
        };
        if let Some(found) = self.bytes()? {
            return parse(found);
        }
        // Every VM is registered before it gets a directory, so directories without a registry mean that it
        // was lost. If it counted as empty, `reap` would delete all VMs.
        if directory::names(&self.state.join(VMS))?.is_empty() {
            return Ok(Arc::new(RegistryContents::empty()));
        }
        match self.bytes()? {
            // The first VM was created between the two attempts to read.
            Some(found) => parse(found),
            None => Err(lost(&self.file()).into()),
        }
    }

    /// As [`Registry::read`], for a command that reads once: the content is not kept, so its owner need not copy it.
    ///
    /// # Errors
    /// Those of [`Registry::read`].
    pub fn take(&self) -> Result<RegistryContents> {
        let contents = self.read()?;
        *self.seen() = None;
        Ok(Arc::unwrap_or_clone(contents))
    }

    /// The registry file, if there is one.
    fn bytes(&self) -> Result<Option<(FileVersion, Vec<u8>)>> {
        ownership::check_file(&self.file())?;
        if_exists(FileVersion::read(&self.file()))
            .with_context(|| format!("cannot read {}", self.file().display()))
    }

    /// One transaction: reads under the lock, calls `change`, and commits the content. An error of `change`,
    /// or [`RegistryChange::Nothing`], leaves the file as it was. [`RegistryChange`] says whether the change
    /// survives a power cut.
    ///
    /// # Errors
    /// Those of [`Registry::read`] and of `change`, and `Busy` if the lock is held for 20 seconds.
    pub fn update<T>(
        &self,
        change: impl FnOnce(&mut RegistryContents) -> Result<(T, RegistryChange)>,
    ) -> Result<T> {
        let _lock = self.lock()?;
        let mut contents = self.take()?;
        let (result, changed) = change(&mut contents)?;
        match changed {
            RegistryChange::Made => self.commit(contents, atomic_file::replace)?,
            RegistryChange::OfThisBoot => self.commit(contents, atomic_file::replace_unsynced)?,
            RegistryChange::Nothing => {}
        }
        Ok(result)
    }

    /// Replaces a registry that cannot be read, and keeps the damaged file. `make` is given the last
    /// generation found in it. Returns false, and changes nothing, if the registry can be read.
    ///
    /// # Errors
    /// `Failure` if a newer mayfly wrote it: what this one does not understand would be lost.
    pub fn replace_damaged(
        &self,
        make: impl FnOnce(u64) -> Result<RegistryContents>,
    ) -> Result<bool> {
        let _lock = self.lock()?;
        let damaged = self.bytes()?.map(|(_, bytes)| bytes);
        if let Some(bytes) = &damaged {
            if RegistryContents::parse(bytes).is_ok() {
                return Ok(false);
            }
            check_schema(bytes)?;
        }
        let contents = make(last_generation(damaged.as_deref().unwrap_or_default()))?;
        if let Some(damaged) = damaged {
            atomic_file::replace(&self.damaged(), &damaged)?;
        }
        self.commit(contents, atomic_file::replace)?;
        Ok(true)
    }

    fn commit(&self, mut contents: RegistryContents, write: Write) -> Result<()> {
        contents.generation += 1;
        let bytes = contents.to_bytes()?;
        let file = DiskReserve::of(&self.state).spend(|| write(&self.file(), &bytes))?;
        let version = FileVersion::of(file).context("cannot look at the registry")?;
        *self.seen() = Some((version, Arc::new(contents)));
        Ok(())
    }

    fn seen(&self) -> MutexGuard<'_, Option<Seen>> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The secret of the marks of VMs' processes; `None` if no VM was ever created here.
    pub fn mark_key(&self) -> Result<Option<MarkKey>> {
        mark_key::read(&self.state)
    }

    /// Removes the unfinished files of killed commands, or with `dry_run` only finds them, and returns them.
    /// Does nothing while another command writes.
    pub fn sweep(&self, dry_run: bool) -> Result<Vec<PathBuf>> {
        let files = [self.file(), self.damaged(), mark_key::file(&self.state)];
        let find = |dry_run| -> Result<Vec<PathBuf>> {
            files.iter().filter_map(|path| atomic_file::sweep(path, dry_run).transpose()).collect()
        };
        let found = find(true)?;
        if found.is_empty() {
            return Ok(found);
        }
        match FileLock::try_acquire(&self.lock_file())? {
            Some(_lock) => find(dry_run),
            None => Ok(Vec::new()),
        }
    }

    fn lock(&self) -> Result<FileLock> {
        FileLock::acquire(&self.lock_file(), "the registry", Instant::now() + REGISTRY_LIMIT)
    }

    fn lock_file(&self) -> PathBuf {
        self.state.join("registry.lock")
    }

    /// Waits for the lock of one VM.
    ///
    /// # Errors
    /// `Busy` after `limit`.
    pub fn lock_vm(&self, id: &VmId, limit: Duration) -> Result<FileLock> {
        // Looked up before the wait, at whose end the VM may be gone.
        let name = || Some(self.read().ok()?.vms.get(id)?.manifest.display_name().to_owned());
        let what = format!("VM {}", name().unwrap_or_else(|| id.to_string()));
        FileLock::acquire(&self.vm_lock(id), &what, Instant::now() + limit)
    }

    /// The lock of one VM, if it is free.
    pub fn try_lock_vm(&self, id: &VmId) -> Result<Option<FileLock>> {
        FileLock::try_acquire(&self.vm_lock(id))
    }

    /// Whether the lock of one VM is held. Creates no lock file.
    pub fn is_vm_locked(&self, id: &VmId) -> Result<bool> {
        let path = self.vm_lock(id);
        Ok(path.exists() && FileLock::try_share(&path)?.is_none())
    }

    /// The ids that have a lock file.
    pub fn locked_ids(&self) -> Result<Vec<VmId>> {
        let names = directory::names(&self.state.join(LOCKS))?;
        Ok(names.iter().filter_map(|name| name.strip_suffix(".lock")?.parse().ok()).collect())
    }

    fn vm_lock(&self, id: &VmId) -> PathBuf {
        self.state.join(LOCKS).join(format!("{id}.lock"))
    }
}

fn lost(file: &Path) -> Refusal {
    Refusal::new(
        RefusalKind::Failure,
        format!("there are VMs but no registry at {}", file.display()),
    )
    .hint("'mayfly reap --rebuild' makes a new one from the VMs' manifests")
}

/// The generation in a file that does not parse; zero if there is none.
fn last_generation(damaged: &[u8]) -> u64 {
    let text = String::from_utf8_lossy(damaged);
    let after = text.split("\"generation\":").nth(1).unwrap_or_default();
    let digits: String = after.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn bump(registry: &Registry) {
        registry.update(|_| Ok(((), RegistryChange::Made))).unwrap();
    }

    #[test]
    fn an_update_that_fails_or_changes_nothing_writes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let registry = Registry::open(&dir.path().join("state")).unwrap();
        registry.update(|_| Ok(((), RegistryChange::Nothing))).unwrap();
        assert!(!registry.file().exists());
        bump(&registry);
        let failed: Result<()> = registry.update(|_| anyhow::bail!("no"));
        assert!(failed.is_err());
        assert_eq!(registry.read().unwrap().generation, 1);
    }

    #[test]
    fn concurrent_updates_all_count() {
        let dir = tempfile::tempdir().unwrap();
        let registry = Registry::open(&dir.path().join("state")).unwrap();
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| (0..25).for_each(|_| bump(&registry)));
            }
        });
        assert_eq!(registry.read().unwrap().generation, 200);
    }

    #[test]
    fn a_damaged_registry_is_refused_until_it_is_replaced_and_then_kept_aside() {
        let dir = tempfile::tempdir().unwrap();
        let registry = Registry::open(&dir.path().join("state")).unwrap();
        fs::write(registry.file(), r#"{"schema":1,"generation":41,"vms":{"#).unwrap();
        assert!(registry.read().is_err());
        assert!(registry.update(|_| Ok(((), RegistryChange::Made))).is_err());
        let make = |generation| Ok(RegistryContents { generation, ..RegistryContents::empty() });
        assert!(registry.replace_damaged(make).unwrap());
        assert_eq!(registry.read().unwrap().generation, 42);
        assert!(registry.damaged().exists());
        assert!(!registry.replace_damaged(|_| unreachable!()).unwrap());
        bump(&registry);
    }
}
