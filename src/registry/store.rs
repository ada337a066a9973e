//! Transactions on the registry file, and the locks of single VMs.

use std::fs::{self, File};
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::contents::Contents;
use super::seen::Seen;
use crate::host::lock::Lock;
use crate::host::{directory, durable};
use crate::model::VmId;

/// How long an update waits for the registry. Every holder lets go within milliseconds, so this is
/// many times what the largest crowd of commands needs.
const REGISTRY_PATIENCE: Duration = Duration::from_secs(20);

/// Whether an update's closure changed anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    Made,
    Nothing,
}

/// The registry of one state directory.
#[derive(Debug, Clone)]
pub struct Registry {
    state: PathBuf,
    /// What was read last: a command looks several times, and the file is parsed when it changed.
    seen: Arc<Mutex<Option<Seen>>>,
}

impl Registry {
    /// The registry below `state`, whose directories are made where they are missing.
    pub fn open(state: &Path) -> Result<Registry> {
        directory::ensure_private(state)?;
        for part in ["locks", "vms"] {
            directory::ensure_private(&state.join(part))?;
        }
        Ok(Registry::at(state))
    }

    /// The registry below `state` for a command that only reads: makes no directory, and finds an
    /// empty registry where there is none.
    pub fn open_to_read(state: &Path) -> Result<Registry> {
        if state.symlink_metadata().is_ok() {
            directory::ensure_private(state)?;
        }
        Ok(Registry::at(state))
    }

    /// The registry below `state`, without a look at the place.
    pub fn at(state: &Path) -> Registry {
        Registry { state: state.to_owned(), seen: Arc::default() }
    }

    fn file(&self) -> PathBuf {
        self.state.join("registry.json")
    }

    /// The content as of the last committed change; takes no lock.
    pub fn read(&self) -> Result<Arc<Contents>> {
        let mut seen = self.seen();
        if let Some(seen) = seen.as_ref().filter(|seen| seen.is_at(&self.file())) {
            return Ok(Arc::clone(&seen.contents));
        }
        let context = || format!("cannot read {}", self.file().display());
        let mut file = match File::open(self.file()) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => {
                return Ok(Arc::new(Contents::empty()));
            }
            Err(error) => return Err(error).with_context(context),
        };
        let meta = file.metadata().with_context(context)?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).with_context(context)?;
        let contents =
            Contents::parse(&bytes).with_context(|| format!("in {}", self.file().display()))?;
        let contents = Arc::new(contents);
        *seen = Some(Seen::new(file, &meta, Arc::clone(&contents)));
        Ok(contents)
    }

    fn seen(&self) -> MutexGuard<'_, Option<Seen>> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One transaction: reads under the lock, lets `change` work on the content, and commits what it
    /// did. An error from `change`, or [`Change::Nothing`], leaves the file as it was. When this
    /// returns, the change survives a power cut.
    pub fn update<T>(
        &self,
        change: impl FnOnce(&mut Contents) -> Result<(T, Change)>,
    ) -> Result<T> {
        let _lock = self.lock()?;
        let contents = self.read()?;
        // Whatever becomes of this copy, it is no version of the file until it is committed.
        *self.seen() = None;
        let mut contents = Arc::unwrap_or_clone(contents);
        let (result, changed) = change(&mut contents)?;
        if changed == Change::Made {
            self.commit(contents)?;
        }
        Ok(result)
    }

    /// Replaces a registry that cannot be read. `make` is given the last generation that can still
    /// be made out, and the damaged file is kept beside the new one. Returns whether it was replaced:
    /// nothing happens to a registry that can be read.
    pub fn replace_damaged(&self, make: impl FnOnce(u64) -> Result<Contents>) -> Result<bool> {
        let _lock = self.lock()?;
        let damaged = match fs::read(self.file()) {
            Ok(bytes) if Contents::parse(&bytes).is_ok() => return Ok(false),
            Ok(bytes) => bytes,
            Err(error) if error.kind() == ErrorKind::NotFound => Vec::new(),
            Err(error) => {
                return Err(error)
                    .with_context(|| format!("cannot read {}", self.file().display()));
            }
        };
        let contents = make(last_generation(&damaged))?;
        if !damaged.is_empty() {
            durable::replace(&self.file().with_extension("json.damaged"), &damaged)?;
        }
        self.commit(contents)?;
        Ok(true)
    }

    fn commit(&self, mut contents: Contents) -> Result<()> {
        contents.generation += 1;
        let mut bytes = serde_json::to_vec(&contents).context("cannot serialize the registry")?;
        bytes.push(b'\n');
        let file = durable::replace(&self.file(), &bytes)?;
        if let Ok(meta) = file.metadata() {
            *self.seen() = Some(Seen::new(file, &meta, Arc::new(contents)));
        }
        Ok(())
    }

    fn lock(&self) -> Result<Lock> {
        let path = self.state.join("registry.lock");
        Lock::acquire(&path, "the registry", Instant::now() + REGISTRY_PATIENCE)
    }

    /// Waits for the lock of one VM, at most `patience`.
    pub fn lock_vm(&self, id: &VmId, patience: Duration) -> Result<Lock> {
        Lock::acquire(&self.vm_lock(id), &format!("VM {id}"), Instant::now() + patience)
    }

    /// The lock of one VM, if nobody holds it.
    pub fn try_lock_vm(&self, id: &VmId) -> Result<Option<Lock>> {
        Lock::try_acquire(&self.vm_lock(id))
    }

    /// The ids that have a lock file.
    pub fn locked_ids(&self) -> Result<Vec<VmId>> {
        let names = directory::names(&self.state.join("locks"))?;
        Ok(names.iter().filter_map(|name| name.strip_suffix(".lock")?.parse().ok()).collect())
    }

    fn vm_lock(&self, id: &VmId) -> PathBuf {
        self.state.join("locks").join(format!("{id}.lock"))
    }
}

/// The generation written in a file that does not parse; zero if even that is lost.
fn last_generation(damaged: &[u8]) -> u64 {
    let text = String::from_utf8_lossy(damaged);
    let after = text.split("\"generation\":").nth(1).unwrap_or_default();
    let digits: String = after.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bump(registry: &Registry) {
        registry.update(|_| Ok(((), Change::Made))).unwrap();
    }

    #[test]
    fn an_update_that_fails_or_changes_nothing_writes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let registry = Registry::open(&dir.path().join("state")).unwrap();
        registry.update(|_| Ok(((), Change::Nothing))).unwrap();
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
        assert!(registry.update(|_| Ok(((), Change::Made))).is_err());
        let make = |generation| Ok(Contents { generation, ..Contents::empty() });
        assert!(registry.replace_damaged(make).unwrap());
        assert_eq!(registry.read().unwrap().generation, 42);
        assert!(registry.file().with_extension("json.damaged").exists());
        assert!(!registry.replace_damaged(|_| unreachable!()).unwrap());
        bump(&registry);
    }
}
