//! Directories that are ours alone, and how they are taken away.

use std::fs::{self, DirBuilder, Metadata};
use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::unistd::geteuid;

use crate::model::{Refusal, RefusalKind};

/// How often a tree is deleted that others still put something in. Far more than ever needed: each
/// round takes another command that comes in between.
const ROUNDS: usize = 100;

/// How long a directory may come and go under a command that wants to use it. A removal by another
/// command can take as long as the kernel lets that one wait for a CPU: till it is over, the
/// directory can be seen and nothing be put in it.
const PATIENCE: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(1);

/// Makes sure `path` is a directory that only this user can change, creating it (and its parents)
/// with mode 0700.
///
/// Errors: `Host` when it is a link, not a directory, somebody else's, or writable by others: what
/// is kept there decides which processes are signalled and which files are deleted.
pub fn ensure_private(path: &Path) -> Result<()> {
    while_it_vanishes(path, || make_private(path))
}

/// One attempt at the same. `false` if the directory was removed meanwhile.
fn make_private(path: &Path) -> Result<bool> {
    // Looked at first, so that nothing is made in a place that will not do.
    if is_private(path)? {
        return Ok(true);
    }
    match DirBuilder::new().recursive(true).mode(0o700).create(path) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
        made => made.with_context(|| format!("cannot create {}", path.display()))?,
    }
    is_private(path)
}

/// Tries again and again what comes to nothing, `false`, when the directory `path` is removed between
/// two steps of it, as others do whenever it is empty.
fn while_it_vanishes(path: &Path, attempt: impl Fn() -> Result<bool>) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    while !attempt()? {
        if Instant::now() >= deadline {
            bail!("{} keeps vanishing", path.display());
        }
        thread::sleep(PAUSE);
    }
    Ok(())
}

/// Makes sure of the same without creating anything. `false` if the directory is not there, but
/// could be.
pub fn is_private(path: &Path) -> Result<bool> {
    match fs::symlink_metadata(path) {
        Ok(meta) => check_private(path, &meta).and_then(|()| check_above(path)).map(|()| true),
        Err(error) if error.kind() == ErrorKind::NotFound => check_above(path).map(|()| false),
        Err(error) => Err(error).with_context(|| format!("cannot look at {}", path.display())),
    }
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
            "take that away with 'chmod go-w', or name another directory",
        );
    }
    Ok(())
}

/// Refuses a place that somebody else could take away and put another in its stead: every directory
/// above it must belong to us or to root, and may be writable for all only with the sticky bit, as
/// /tmp is. Groups are trusted there, as many systems give each user one of its own.
///
/// A link on the way must belong to us or to root as well, or its owner could point it elsewhere;
/// where it leads is then looked at in the same way.
fn check_above(path: &Path) -> Result<()> {
    // Of a place yet to be made, what there is of the way to it.
    let mut way = path.ancestors().skip(1);
    let Some(parent) = way.find(|above| fs::symlink_metadata(above).is_ok()) else {
        return Ok(());
    };
    check_way(path, parent)?;
    let real =
        fs::canonicalize(parent).with_context(|| format!("cannot look at {}", parent.display()))?;
    if real == parent { Ok(()) } else { check_way(path, &real) }
}

fn check_way(path: &Path, parent: &Path) -> Result<()> {
    let me = geteuid().as_raw();
    for above in parent.ancestors().filter(|above| !above.as_os_str().is_empty()) {
        let meta = fs::symlink_metadata(above)
            .with_context(|| format!("cannot look at {}", above.display()))?;
        let why = if meta.uid() != me && meta.uid() != 0 {
            format!("which belongs to user {}", meta.uid())
        } else if !meta.is_symlink() && meta.mode() & 0o1002 == 0o002 {
            "which anybody can change".to_owned()
        } else {
            continue;
        };
        let message = format!("{} is below {}, {why}", path.display(), above.display());
        return Err(Refusal::new(RefusalKind::Host, message)
            .hint("name another place with --state-dir or MAYFLY_RUNTIME_DIR")
            .into());
    }
    Ok(())
}

/// Creates a directory that must not exist yet below a private one that may vanish whenever it is
/// empty: whoever empties it removes it.
pub fn create_new_below(parent: &Path, path: &Path) -> Result<()> {
    while_it_vanishes(parent, || {
        if !make_private(parent)? {
            return Ok(false);
        }
        match DirBuilder::new().mode(0o700).create(path) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
            made => {
                made.map(|()| true).with_context(|| format!("cannot create {}", path.display()))
            }
        }
    })
}

/// Creates a directory that must not exist yet, mode 0700.
pub fn create_new(path: &Path) -> Result<()> {
    DirBuilder::new()
        .mode(0o700)
        .create(path)
        .with_context(|| format!("cannot create {}", path.display()))
}

/// Deletes `path` and everything in it; nothing there is no error. Links are removed, never followed.
pub fn remove(path: &Path) -> Result<()> {
    let mut removed = fs::remove_dir_all(path);
    for _ in 0..ROUNDS {
        match &removed {
            // A command of the mock backend can leave directories that even their owner cannot enter.
            Err(error) if error.kind() == ErrorKind::PermissionDenied => open_up(path),
            // An `exec` that does not know yet that its VM is gone may claim a port in it.
            Err(error) if error.kind() == ErrorKind::DirectoryNotEmpty => {}
            _ => break,
        }
        removed = fs::remove_dir_all(path);
    }
    match removed {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot delete {}", path.display()))
        }
        _ => Ok(()),
    }
}

fn open_up(path: &Path) {
    let is_directory = fs::symlink_metadata(path).is_ok_and(|meta| meta.is_dir());
    if !is_directory {
        return;
    }
    let _ = fs::set_permissions(path, fs::Permissions::from_mode(0o700));
    for entry in fs::read_dir(path).into_iter().flatten().flatten() {
        open_up(&entry.path());
    }
}

/// Removes a directory that nothing is in; one that is in use, or gone, stays as it is.
pub fn remove_if_empty(path: &Path) {
    let _ = fs::remove_dir(path);
}

/// Bytes that something takes on the disk, with all that is in it, holes left out.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DiskUsage {
    pub bytes: u64,
    /// The part of them that is free when it is deleted: what has another name elsewhere stays.
    pub own_bytes: u64,
    /// The lengths of the files, holes and all.
    pub apparent_bytes: u64,
}

/// Measures `path`; what cannot be looked at, or is not there, takes nothing.
pub fn usage(path: &Path) -> DiskUsage {
    let mut usage = DiskUsage::default();
    let mut waiting = vec![path.to_owned()];
    while let Some(path) = waiting.pop() {
        let Ok(about) = fs::symlink_metadata(&path) else { continue };
        // Blocks of 512 bytes, whatever the file system's own are.
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

/// The names in a directory; none where it does not exist.
pub fn names(path: &Path) -> Result<Vec<String>> {
    let entries = match fs::read_dir(path) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error).with_context(|| format!("cannot list {}", path.display())),
    };
    let mut names = Vec::new();
    for entry in entries {
        // What is overlooked here is swept away as unknown.
        let entry = entry.with_context(|| format!("cannot list {}", path.display()))?;
        names.extend(entry.file_name().into_string());
    }
    names.sort();
    Ok(names)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn only_a_directory_that_is_ours_alone_will_do() {
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
    fn the_way_there_may_have_links_of_ours_but_no_open_directory() {
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
    fn a_directory_that_others_remove_when_it_is_empty_can_still_be_used() {
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
    fn removal_takes_what_is_put_there_meanwhile() {
        let dir = tempfile::tempdir().unwrap();
        let tree = dir.path().join("tree");
        std::thread::scope(|scope| {
            create_new(&tree).unwrap();
            // Ends when its directory is gone, or at a number of files that a slow disk can delete.
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
    fn removal_takes_links_but_never_follows_them() {
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
