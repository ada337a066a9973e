//! What an image has where memory is mounted over it: directories that its programs expect, such as
//! `/run/postgresql`. They are there again in the mounted one, with what small files are in them.

use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, lchown, symlink};
use std::path::{Path, PathBuf};

/// Bytes of one file, and entries altogether: all of it will be in memory.
const MAX_FILE: u64 = 1 << 20;
const MAX_ENTRIES: usize = 1000;

/// Directories in directories.
const MAX_DEPTH: usize = 8;

/// Mounts something on a directory, and puts what was there into it.
///
/// # Errors
/// Those of the mounting; what cannot be put there is missed by nobody but its program.
pub fn keep<E>(at: &Path, mount: impl FnOnce() -> Result<(), E>) -> Result<(), E> {
    let below = File::open(at);
    mount()?;
    if let Ok(below) = below {
        let path = PathBuf::from(format!("/proc/self/fd/{}", below.as_raw_fd()));
        let mut left = MAX_ENTRIES;
        copy(&path, at, 0, &mut left);
    }
    Ok(())
}

fn copy(from: &Path, to: &Path, depth: usize, left: &mut usize) {
    for entry in fs::read_dir(from).into_iter().flatten().flatten() {
        if *left == 0 {
            return;
        }
        *left -= 1;
        let target = to.join(entry.file_name());
        if copy_one(&entry.path(), &target).is_ok_and(|is_directory| is_directory)
            && depth < MAX_DEPTH
        {
            copy(&entry.path(), &target, depth + 1, left);
        }
    }
}

/// Copies what is not a directory, or makes one. Says whether it is one.
fn copy_one(from: &Path, to: &Path) -> io::Result<bool> {
    let about = fs::symlink_metadata(from)?;
    if about.is_dir() {
        fs::create_dir(to)?;
    } else if about.is_file() && about.len() <= MAX_FILE {
        fs::copy(from, to)?;
    } else if about.is_symlink() {
        symlink(fs::read_link(from)?, to)?;
    } else {
        return Ok(false);
    }
    // The owner first: a change of it takes set-id bits away.
    lchown(to, Some(about.uid()), Some(about.gid()))?;
    if !about.is_symlink() {
        fs::set_permissions(to, about.permissions())?;
    }
    Ok(about.is_dir())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn what_was_there_is_there_again() {
        let dir = tempfile::tempdir().unwrap();
        let (below, above) = (dir.path().join("below"), dir.path().join("above"));
        fs::create_dir_all(below.join("daemon/inner")).unwrap();
        fs::set_permissions(below.join("daemon"), fs::Permissions::from_mode(0o2775)).unwrap();
        fs::write(below.join("daemon/inner/file"), "x").unwrap();
        symlink("/somewhere", below.join("link")).unwrap();
        File::create(below.join("large")).unwrap().set_len(MAX_FILE + 1).unwrap();
        let at = dir.path().join("at");
        fs::rename(&below, &at).unwrap();
        // As a mount does: another directory is in its place, and the old one still open.
        let mounted = keep(&at, || {
            fs::rename(&at, &below)?;
            fs::create_dir(&above)?;
            fs::rename(&above, &at)
        });
        mounted.unwrap();
        assert_eq!(fs::read_to_string(at.join("daemon/inner/file")).unwrap(), "x");
        assert_eq!(fs::metadata(at.join("daemon")).unwrap().mode() & 0o7777, 0o2775);
        assert_eq!(fs::read_link(at.join("link")).unwrap(), Path::new("/somewhere"));
        assert!(!at.join("large").exists());
    }
}
