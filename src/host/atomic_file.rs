//! Replacing files atomically: a reader sees the old content or the new one, even after a crash.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use crate::sys::file_system::if_exists;
use anyhow::{Context, Result};

/// Replaces the content of `path`: writes a temporary file beside it, syncs it, renames it and syncs the
/// directory. When this returns, the new content survives a power failure. Returns the new file.
///
/// The temporary file has a fixed name with the suffix `.new`. The caller holds a lock, so an existing file of
/// that name was left by a killed process and is replaced.
///
/// # Errors
/// Those of the file system. The old content is still there, unless only the last sync failed.
pub fn replace(path: &Path, bytes: &[u8]) -> Result<File> {
    let file = replace_unsynced(path, bytes)?;
    sync_directory_of(path)?;
    Ok(file)
}

/// As [`replace`], without syncing the directory: after a power failure `path` has either the old or the new content.
///
/// # Errors
/// Those of the file system. The old content is still there.
pub fn replace_unsynced(path: &Path, bytes: &[u8]) -> Result<File> {
    write_whole(path, |temporary| write_new(temporary, bytes))
}

/// Lets `write` make a file under a temporary name and then renames it to `path`, so that `path` never has half
/// of it. As with [`replace`], the caller holds a lock.
///
/// # Errors
/// Those of `write` and of the file system. Nothing new is left.
pub fn write_whole<T>(path: &Path, write: impl FnOnce(&Path) -> Result<T>) -> Result<T> {
    let temporary = temporary_of(path);
    let written = write(&temporary).and_then(|written| {
        fs::rename(&temporary, path)
            .with_context(|| format!("cannot put {} in place", path.display()))?;
        Ok(written)
    });
    if written.is_err() {
        let _ = fs::remove_file(&temporary);
    }
    written
}

/// Where the new content of `path` is until it is complete.
pub fn temporary_of(path: &Path) -> PathBuf {
    path.with_added_extension("new")
}

/// Deletes what an unfinished write of `path` left, or with `dry_run` only finds it, and returns its file. The
/// caller holds the lock of what is written.
pub fn sweep(path: &Path, dry_run: bool) -> Result<Option<PathBuf>> {
    let unfinished = temporary_of(path);
    if unfinished.symlink_metadata().is_err() {
        return Ok(None);
    }
    if !dry_run {
        remove_if_there(&unfinished)?;
    }
    Ok(Some(unfinished))
}

/// Writes a new file with mode 0600 and syncs its content, but not the directory. Replaces an existing file.
pub fn write_new(path: &Path, bytes: &[u8]) -> Result<File> {
    remove_if_there(path)?;
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .with_context(|| format!("cannot create {}", path.display()))?;
    file.write_all(bytes)
        .and_then(|()| file.sync_all())
        .with_context(|| format!("cannot write {}", path.display()))?;
    Ok(file)
}

/// Deletes a file if it exists.
pub fn remove_if_there(path: &Path) -> Result<()> {
    if_exists(fs::remove_file(path))
        .map(drop)
        .with_context(|| format!("cannot remove {}", path.display()))
}

/// Syncs the content of a file that is already there.
pub fn sync(path: &Path) -> Result<()> {
    File::open(path)
        .and_then(|file| file.sync_all())
        .with_context(|| format!("cannot sync {}", path.display()))
}

/// Syncs the directory of `path`, so that the entry survives a power failure.
pub fn sync_directory_of(path: &Path) -> Result<()> {
    let parent = path.parent().context("a file has a directory")?;
    File::open(parent)
        .and_then(|directory| directory.sync_all())
        .with_context(|| format!("cannot sync {}", parent.display()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn replacing_leaves_no_temporary_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file.json");
        fs::write(path.with_added_extension("new"), "left by a killed command").unwrap();
        replace(&path, b"one").unwrap();
        replace(&path, b"two").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
