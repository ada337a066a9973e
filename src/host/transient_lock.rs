//! Locks whose files are deleted when they are released, unless the process is killed.

use std::path::{Path, PathBuf};

use anyhow::Result;

use super::directory;
use super::lock::FileLock;

/// A held lock. Dropping it deletes its file.
#[derive(Debug)]
pub struct TransientLock(Option<FileLock>);

impl TransientLock {
    /// The lock at `path`; `None` if another process holds it.
    ///
    /// # Errors
    /// As for [`FileLock::try_acquire`].
    pub fn try_acquire(path: &Path) -> Result<Option<TransientLock>> {
        Ok(FileLock::try_acquire(path)?.map(|lock| TransientLock(Some(lock))))
    }
}

impl Drop for TransientLock {
    fn drop(&mut self) {
        // A file that stays is not locked, so it is swept.
        self.0.take().map(FileLock::remove);
    }
}

/// Deletes the locks of killed processes whose names end in `suffix`, or with `dry_run` only finds them, and returns their
/// paths.
pub fn sweep(directory: &Path, suffix: &str, dry_run: bool) -> Result<Vec<PathBuf>> {
    let mut swept = Vec::new();
    for name in directory::names(directory)?.iter().filter(|name| name.ends_with(suffix)) {
        let path = directory.join(name);
        let Some(dead) = FileLock::try_acquire(&path)? else { continue };
        if !dry_run {
            dead.remove()?;
        }
        swept.push(path);
    }
    Ok(swept)
}
