//! Files that are either the old version or the new one, whatever happens in between.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// Replaces `path` with `bytes`: a temporary file beside it, fsync, rename, fsync of the directory.
/// When this returns, the new content survives a power cut. Returns the new file.
///
/// The temporary file has a fixed name with the suffix `.new`: the caller holds the lock of what it
/// writes, so a file of that name is what a killed predecessor left, and is replaced.
pub fn replace(path: &Path, bytes: &[u8]) -> Result<File> {
    let file = exchange(path, bytes)?;
    sync_directory_of(path)?;
    Ok(file)
}

/// The same without the last fsync: everybody sees the new file from now on, and after a power cut there
/// is one of the two, whole.
pub fn exchange(path: &Path, bytes: &[u8]) -> Result<File> {
    let temporary = temporary_of(path);
    let written = write_new(&temporary, bytes).and_then(|file| {
        fs::rename(&temporary, path)
            .with_context(|| format!("cannot put {} in place", path.display()))?;
        Ok(file)
    });
    if written.is_err() {
        let _ = fs::remove_file(&temporary);
    }
    written
}

/// Where [`replace`] keeps the new content of `path` before it is complete.
pub fn temporary_of(path: &Path) -> PathBuf {
    path.with_added_extension("new")
}

/// Writes a file anew, mode 0600, with its content on the disk; its entry in the directory is not yet.
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

/// Deletes a file, if there is one.
pub fn remove_if_there(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", path.display()))
        }
        _ => Ok(()),
    }
}

/// Makes the entry of `path` in its directory durable.
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
    fn replaces_and_leaves_nothing_beside() {
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
