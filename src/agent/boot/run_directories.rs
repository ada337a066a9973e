//! Directories such as `/run/postgresql` that an image has below a mount point and its programs expect.
//! They are copied into the tmpfs mounted there, with the small files in them.

use crate::sys::descriptor;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{MetadataExt, lchown, symlink};
use std::path::Path;

/// Limits on bytes of one file and on all entries: the copies are in memory.
const MAX_FILE: u64 = 1 << 20;
const MAX_ENTRIES: usize = 1000;

/// Nested directories.
const MAX_DEPTH: usize = 8;

/// Mounts something on a directory, and copies what it hides into it.
///
/// # Errors
/// Those of `mount`. Files that cannot be copied are left out.
pub fn mount_over<E>(at: &Path, mount: impl FnOnce() -> Result<(), E>) -> Result<(), E> {
    let below = File::open(at);
    mount()?;
    if let Ok(below) = below {
        let path = descriptor::path(&below);
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

/// Copies one entry, without a directory's contents. Returns whether it is a directory.
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
    // The owner first: changing it clears set-id bits.
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
    fn hidden_files_are_copied_into_the_mount() {
        let dir = tempfile::tempdir().unwrap();
        let (below, above) = (dir.path().join("below"), dir.path().join("above"));
        fs::create_dir_all(below.join("daemon/inner")).unwrap();
        fs::set_permissions(below.join("daemon"), fs::Permissions::from_mode(0o2775)).unwrap();
        fs::write(below.join("daemon/inner/file"), "x").unwrap();
        symlink("/somewhere", below.join("link")).unwrap();
        File::create(below.join("large")).unwrap().set_len(MAX_FILE + 1).unwrap();
        let at = dir.path().join("at");
        fs::rename(&below, &at).unwrap();
        // Like a mount: another directory takes its place while it is open.
        let mounted = mount_over(&at, || {
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
