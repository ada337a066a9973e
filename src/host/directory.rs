//! Directories that only this user can change, and deleting directories.

use std::collections::HashSet;
use std::fs::{self, DirBuilder, Metadata};
use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use nix::unistd::geteuid;
use rustix::fs::{Access, access};
use rustix::io::Errno;

use super::ownership;
use crate::model::{Refusal, RefusalKind};
use crate::sys::file_system::if_exists;
use crate::sys::removal;

/// How long to try to use a directory that another process removes. While rmdir(2) is in progress, which may
/// take as long as that process waits for a CPU, the directory is visible but no file can be created in it.
const REMOVAL_LIMIT: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(1);

/// Makes sure that `path` is a directory that only this user can change. Creates it and its parents with mode
/// 0700.
///
/// # Errors
/// `Host`: it is a symbolic link or not a directory, belongs to another user, or is writable by others. Its
/// files determine which processes are signalled and which files are deleted.
pub fn ensure_private(path: &Path) -> Result<()> {
    retry_while_removed(path, || make_private(path))
}

/// One attempt of [`ensure_private`]; `false` if the directory was removed meanwhile.
fn make_private(path: &Path) -> Result<bool> {
    // Checked first, so that nothing is created in an unsuitable place.
    if is_private(path)? {
        return Ok(true);
    }
    match DirBuilder::new().recursive(true).mode(0o700).create(path) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
        made => made.with_context(|| format!("cannot create {}", path.display()))?,
    }
    is_private(path)
}

/// Repeats `attempt` while it returns `false`, because another process removed the directory `path` when it was
/// empty.
fn retry_while_removed(path: &Path, attempt: impl Fn() -> Result<bool>) -> Result<()> {
    let deadline = Instant::now() + REMOVAL_LIMIT;
    while !attempt()? {
        if Instant::now() >= deadline {
            bail!("{} is removed again and again", path.display());
        }
        thread::sleep(PAUSE);
    }
    Ok(())
}

/// Whether `path` is a directory that only this user can change; `false` if it does not exist but could be
/// created.
///
/// # Errors
/// As for [`ensure_private`].
pub fn is_private(path: &Path) -> Result<bool> {
    let meta = if_exists(fs::symlink_metadata(path))
        .with_context(|| format!("cannot look at {}", path.display()))?;
    if let Some(meta) = &meta {
        check_private(path, meta)?;
    }
    ownership::check_way(path)?;
    Ok(meta.is_some())
}

fn check_private(path: &Path, meta: &Metadata) -> Result<()> {
    let refuse = |why: String, hint: &str| {
        Err(Refusal::new(RefusalKind::Host, format!("{} {why}", path.display())).hint(hint).into())
    };
    if meta.is_symlink() {
        return refuse("is a symbolic link".into(), "name the directory itself");
    }
    if !meta.is_dir() {
        return refuse("is not a directory".into(), "name another place with --state-dir");
    }
    if meta.uid() != geteuid().as_raw() {
        return refuse(
            format!("belongs to user {}, not to you", meta.uid()),
            "name a directory of your own with --state-dir",
        );
    }
    if meta.mode() & 0o022 != 0 {
        return refuse(
            format!("can be written by others (mode {:04o})", meta.mode() & 0o7777),
            "run 'chmod go-w' on it, or name another directory",
        );
    }
    Ok(())
}

/// Whether this user can create files in `path`, or create it if it does not exist: neither its owner nor a
/// read-only file system prevents that.
pub fn is_writable(path: &Path) -> bool {
    let existing = path.ancestors().find(|path| fs::symlink_metadata(path).is_ok());
    existing.is_some_and(|path| access(path, Access::WRITE_OK | Access::EXEC_OK).is_ok())
}

/// Creates the directory `path`, which must not exist, in the private directory `parent`, which other processes
/// remove when it is empty.
///
/// # Errors
/// Those of [`ensure_private`] for `parent`; `path` exists.
pub fn create_new_below(parent: &Path, path: &Path) -> Result<()> {
    retry_while_removed(parent, || {
        if !make_private(parent)? {
            return Ok(false);
        }
        let created = if_exists(DirBuilder::new().mode(0o700).create(path));
        Ok(created.with_context(|| format!("cannot create {}", path.display()))?.is_some())
    })
}

/// Creates a directory with mode 0700.
pub fn create_new(path: &Path) -> Result<()> {
    DirBuilder::new()
        .mode(0o700)
        .create(path)
        .with_context(|| format!("cannot create {}", path.display()))
}

/// Deletes `path` and everything in it, if it exists: trees of any depth, with few descriptors. Symbolic links are
/// removed, never followed, and nothing is deleted from another file system that is mounted in it.
pub fn remove(path: &Path) -> Result<()> {
    removal::remove(path)
        .map_err(|errno| match errno {
            Errno::BUSY => anyhow!("a file system is mounted in it; unmount it first"),
            errno => errno.into(),
        })
        .with_context(|| format!("cannot delete {}", path.display()))
}

/// Removes a directory if it is empty. Errors are ignored.
pub fn remove_if_empty(path: &Path) {
    let _ = fs::remove_dir(path);
}

/// How many bytes a file, or a directory with its contents, takes on the disk. Holes do not count.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DiskUsage {
    pub bytes: u64,
    /// Bytes that deleting it would free: files with another hard link do not count.
    pub own_bytes: u64,
    /// The sum of the lengths of the files, holes included.
    pub apparent_bytes: u64,
}

/// Measures `path`. Files that cannot be read count as nothing.
pub fn usage(path: &Path) -> DiskUsage {
    let mut usage = DiskUsage::default();
    let mut waiting = vec![path.to_owned()];
    while let Some(path) = waiting.pop() {
        let Ok(about) = fs::symlink_metadata(&path) else { continue };
        // In units of 512 bytes on every file system.
        let bytes = about.blocks() * 512;
        usage.bytes += bytes;
        if about.is_dir() {
            usage.own_bytes += bytes;
            let inner = fs::read_dir(&path).into_iter().flatten().flatten();
            waiting.extend(inner.map(|entry| entry.path()));
            continue;
        }
        usage.apparent_bytes += about.len();
        if about.nlink() == 1 {
            usage.own_bytes += bytes;
        }
    }
    usage
}

/// Measures several files and directories. A file that was measured before counts as nothing, also under another name.
#[derive(Debug, Clone, Default)]
pub struct FilesOnce(HashSet<(u64, u64)>);

impl FilesOnce {
    /// The bytes that one file takes on the disk.
    pub fn count(&mut self, about: &fs::Metadata) -> u64 {
        let is_new = self.0.insert((about.dev(), about.ino()));
        if is_new { about.blocks() * 512 } else { 0 }
    }

    /// The bytes that `path` and its contents take on the disk. What cannot be read counts as nothing.
    pub fn measure(&mut self, path: &Path) -> u64 {
        let mut bytes = 0;
        let mut waiting = vec![path.to_owned()];
        while let Some(path) = waiting.pop() {
            let Ok(about) = fs::symlink_metadata(&path) else { continue };
            bytes += self.count(&about);
            if about.is_dir() {
                let inner = fs::read_dir(&path).into_iter().flatten().flatten();
                waiting.extend(inner.map(|entry| entry.path()));
            }
        }
        bytes
    }
}

/// The names in a directory, sorted; none if it does not exist. Those that are not UTF-8, which no file of
/// mayfly has, are left out.
///
/// # Errors
/// It cannot be read completely.
pub fn names(path: &Path) -> Result<Vec<String>> {
    let cannot = || format!("cannot list {}", path.display());
    let mut names = Vec::new();
    for entry in if_exists(fs::read_dir(path)).with_context(cannot)?.into_iter().flatten() {
        // Not skipped: callers delete what is not listed.
        let entry = entry.with_context(cannot)?;
        names.extend(entry.file_name().into_string());
    }
    names.sort();
    Ok(names)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    #[test]
    fn only_private_directories_are_accepted() {
        let dir = tempfile::tempdir().unwrap();
        let fresh = dir.path().join("a/b");
        ensure_private(&fresh).unwrap();
        assert_eq!(fs::metadata(&fresh).unwrap().mode() & 0o777, 0o700);

        let link = dir.path().join("link");
        symlink(&fresh, &link).unwrap();
        assert!(ensure_private(&link).is_err());

        let file = dir.path().join("file");
        fs::write(&file, "").unwrap();
        assert!(ensure_private(&file).is_err());

        fs::set_permissions(&fresh, fs::Permissions::from_mode(0o770)).unwrap();
        assert!(ensure_private(&fresh).is_err());
        fs::set_permissions(&fresh, fs::Permissions::from_mode(0o755)).unwrap();
        ensure_private(&fresh).unwrap();
    }

    #[test]
    fn links_above_a_directory_are_accepted_but_not_writable_directories() {
        let dir = tempfile::tempdir().unwrap();
        let (real, link) = (dir.path().join("real"), dir.path().join("link"));
        create_new(&real).unwrap();
        symlink(&real, &link).unwrap();
        ensure_private(&link.join("a")).unwrap();
        assert!(!is_private(&link.join("b")).unwrap());

        fs::set_permissions(&real, fs::Permissions::from_mode(0o777)).unwrap();
        for below in [real.join("a"), link.join("a")] {
            assert!(is_private(&below).is_err(), "{}", below.display());
        }
        fs::set_permissions(&real, fs::Permissions::from_mode(0o1777)).unwrap();
        assert!(is_private(&link.join("a")).unwrap());
        if geteuid().is_root() {
            std::os::unix::fs::lchown(&link, Some(65_534), None).unwrap();
            assert!(is_private(&real.join("a")).unwrap());
            assert!(is_private(&link.join("a")).is_err());
        }
    }

    #[test]
    fn a_directory_that_others_remove_when_it_is_empty_can_be_used() {
        let dir = tempfile::tempdir().unwrap();
        let parent = dir.path().join("run");
        std::thread::scope(|scope| {
            for number in 0..4 {
                let (parent, mine) = (&parent, parent.join(number.to_string()));
                scope.spawn(move || {
                    for _ in 0..300 {
                        create_new_below(parent, &mine).unwrap();
                        remove(&mine).unwrap();
                        remove_if_empty(parent);
                    }
                });
            }
        });
        assert!(!parent.exists());
    }

    #[test]
    fn a_file_with_two_names_is_measured_once() {
        let dir = tempfile::tempdir().unwrap();
        let (one, two) = (dir.path().join("one"), dir.path().join("two"));
        for directory in [&one, &two] {
            create_new(directory).unwrap();
        }
        fs::write(one.join("file"), vec![1; 1 << 20]).unwrap();
        fs::hard_link(one.join("file"), two.join("file")).unwrap();
        let mut files = FilesOnce::default();
        assert!(files.measure(&one) >= 1 << 20);
        assert!(files.measure(&two) < 1 << 20);
        assert_eq!(files.measure(&one), 0);
        assert_eq!(files.measure(&dir.path().join("nowhere")), 0);
    }

    #[test]
    fn removing_deletes_files_that_are_created_meanwhile() {
        let dir = tempfile::tempdir().unwrap();
        let tree = dir.path().join("tree");
        std::thread::scope(|scope| {
            create_new(&tree).unwrap();
            // Ends when the directory is gone, or at a number of files that a slow disk can delete.
            let late = scope.spawn(|| {
                let file = |n: &u32| fs::write(tree.join(format!("{n}")), "").is_ok();
                (0..2_000).take_while(file).inspect(|_| std::thread::yield_now()).count()
            });
            while fs::read_dir(&tree).unwrap().count() < 10 {}
            remove(&tree).unwrap();
            assert!(late.join().unwrap() >= 10);
        });
        assert!(!tree.exists());
    }

    #[test]
    fn removing_deletes_links_but_does_not_follow_them() {
        let dir = tempfile::tempdir().unwrap();
        let outside = dir.path().join("outside");
        fs::create_dir(&outside).unwrap();
        fs::write(outside.join("canary"), "alive").unwrap();
        let tree = dir.path().join("tree");
        create_new(&tree).unwrap();
        symlink(&outside, tree.join("link")).unwrap();
        fs::create_dir(tree.join("shut")).unwrap();
        fs::write(tree.join("shut/file"), "").unwrap();
        fs::set_permissions(tree.join("shut"), fs::Permissions::from_mode(0o000)).unwrap();
        remove(&tree).unwrap();
        remove(&tree).unwrap();
        assert!(!tree.exists());
        assert_eq!(fs::read_to_string(outside.join("canary")).unwrap(), "alive");
    }
}
