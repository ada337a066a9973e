//! Deleting trees of files, of any depth and with any names, with a constant number of descriptors.
//!
//! Links are deleted and never followed. A directory on which another file system is mounted is an error, and
//! nothing in it is deleted.

use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, fchmod, fstat, openat, statat, unlinkat};
use rustix::io::Errno;

use super::directory_cursor::{DirectoryCursor, for_each_name, open_any_mode};
use super::file_system::OPEN_DIRECTORY;

/// How often to begin again while other processes add files or move directories. Each round needs another
/// process that interferes, so this is far more than needed.
const ROUNDS: usize = 100;

/// How many names of directories are kept in memory, for all depths together, beyond one per depth. A directory
/// with more is listed several times.
const WAITING: usize = 1 << 16;

/// Deletes a file, or a directory with everything in it. Nothing there is no error.
///
/// # Errors
/// [`Errno::BUSY`] for a mount point, and others of the file system.
pub fn remove(path: &Path) -> Result<(), Errno> {
    let parent = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    match openat(rustix::fs::CWD, parent, flags, Mode::empty()) {
        Err(Errno::NOENT) => Ok(()),
        opened => remove_at(opened?.as_fd(), path.file_name().ok_or(Errno::INVAL)?),
    }
}

/// As [`remove`], for a name in an open directory.
pub fn remove_at(parent: BorrowedFd<'_>, name: &OsStr) -> Result<(), Errno> {
    let mut last = Errno::NOTEMPTY;
    for _ in 0..ROUNDS {
        match try_remove(parent, name) {
            // Others added files, moved a directory, or replaced one by a file.
            Err(errno @ (Errno::NOTEMPTY | Errno::STALE | Errno::NOTDIR | Errno::ISDIR)) => {
                last = errno;
            }
            Err(Errno::NOENT) => return Ok(()),
            other => return other,
        }
    }
    Err(last)
}

fn try_remove(parent: BorrowedFd<'_>, name: &OsStr) -> Result<(), Errno> {
    let stat = statat(parent, name, AtFlags::SYMLINK_NOFOLLOW)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
        return unlinkat(parent, name, AtFlags::empty());
    }
    match open_any_mode(parent, name) {
        Ok(directory) => try_clear(directory.as_fd())?,
        Err(Errno::XDEV) => return Err(Errno::BUSY),
        // An empty directory can be removed without opening it.
        Err(_) => {}
    }
    unlinkat(parent, name, AtFlags::REMOVEDIR)
}

/// Deletes everything in a directory.
///
/// # Errors
/// As for [`remove`].
pub fn clear(directory: BorrowedFd<'_>) -> Result<(), Errno> {
    for _ in 0..ROUNDS {
        match try_clear(directory) {
            Err(Errno::NOTEMPTY | Errno::STALE | Errno::NOTDIR | Errno::ISDIR) => {}
            Err(errno) => return Err(errno),
            Ok(()) => {
                let mut is_empty = true;
                for_each_name(directory, &mut |_| {
                    is_empty = false;
                    Ok::<_, Errno>(())
                })?;
                if is_empty {
                    return Ok(());
                }
            }
        }
    }
    Err(Errno::NOTEMPTY)
}

/// A directory of the walk.
#[derive(Default)]
struct Level {
    /// Directories in it that were found and not deleted yet.
    waiting: Vec<OsString>,
    /// Whether all its names were seen.
    is_listed: bool,
}

/// Deletes everything that is in a directory while this runs.
fn try_clear(top: BorrowedFd<'_>) -> Result<(), Errno> {
    make_writable(top);
    let mut cursor = DirectoryCursor::at(openat(top, ".", OPEN_DIRECTORY, Mode::empty())?)?;
    let mut levels = vec![Level::default()];
    let mut waiting = 0;
    while let Some(level) = levels.last_mut() {
        if let Some(name) = level.waiting.pop() {
            waiting -= 1;
            match open_any_mode(cursor.here(), &name) {
                Ok(inner) => {
                    make_writable(inner.as_fd());
                    cursor.enter(&name, inner)?;
                    levels.push(Level::default());
                }
                Err(Errno::NOENT) => {}
                Err(Errno::XDEV) => return Err(Errno::BUSY),
                Err(_) => unlinkat(cursor.here(), &name, AtFlags::REMOVEDIR)?,
            }
        } else if !level.is_listed {
            level.is_listed = true;
            delete_files(cursor.here(), level, WAITING.saturating_sub(waiting).max(1))?;
            waiting += level.waiting.len();
        } else {
            levels.pop();
            if cursor.depth() > 0 {
                let (_, name) = cursor.leave()?;
                unlinkat(cursor.here(), &name, AtFlags::REMOVEDIR)?;
            }
        }
    }
    Ok(())
}

/// Deletes the files of a directory, and notes up to `most` directories in it.
fn delete_files(here: BorrowedFd<'_>, level: &mut Level, most: usize) -> Result<(), Errno> {
    for_each_name(here, &mut |name| {
        let stat = match statat(here, name, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => return Ok(()),
            other => other?,
        };
        if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
            return match unlinkat(here, name, AtFlags::empty()) {
                Err(Errno::NOENT) => Ok(()),
                other => other,
            };
        }
        if level.waiting.len() < most {
            level.waiting.push(name.to_owned());
        } else {
            level.is_listed = false;
        }
        Ok(())
    })
}

/// Lets the owner delete the files in a directory. Its mode may keep even the owner out.
fn make_writable(directory: BorrowedFd<'_>) {
    if fstat(directory).is_ok_and(|stat| stat.st_mode & 0o700 != 0o700) {
        let _ = fchmod(directory, Mode::RWXU);
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::fs::{PermissionsExt, symlink};

    use rustix::fs::{mkdirat, symlinkat};
    use tempfile::TempDir;

    use super::*;

    /// Creates a chain of directories below `top`, each with a file and a link in it. Much longer than a path
    /// can be, with a name of any bytes at each depth.
    fn make_deep(top: &Path, depth: usize, outside: &Path) {
        let mut here = File::open(top).unwrap().into();
        for number in 0..depth {
            let name = [b"\xff\n-d", number.to_string().as_bytes()].concat();
            let name = OsStr::from_bytes(&name);
            mkdirat(&here, name, Mode::RWXU).unwrap();
            let flags = OFlags::CREATE | OFlags::WRONLY;
            drop(openat(&here, "file", flags, Mode::RUSR).unwrap());
            symlinkat(outside, &here, "link").unwrap();
            here = openat(&here, name, OPEN_DIRECTORY, Mode::empty()).unwrap();
        }
    }

    /// Runs `act` in a process of its own that may have few files open.
    fn with_few_descriptors(test: &str, act: impl FnOnce()) {
        const MARK: &str = "MAYFLY_TEST_FEW_DESCRIPTORS";
        if std::env::var_os(MARK).is_some() {
            return act();
        }
        let own = std::env::current_exe().unwrap();
        let script = "ulimit -n 64; exec \"$0\" --exact \"$1\" --test-threads 1";
        #[expect(clippy::disallowed_methods, reason = "the limit holds for a whole process")]
        let output = std::process::Command::new("sh")
            .args(["-c", script])
            .arg(own)
            .arg(test)
            .env(MARK, "1")
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && said.contains("1 passed"), "{said}");
    }

    #[test]
    fn a_tree_of_any_depth_takes_few_descriptors() {
        with_few_descriptors(
            "sys::removal::tests::a_tree_of_any_depth_takes_few_descriptors",
            || {
                let dir = TempDir::new().unwrap();
                let (tree, outside) = (dir.path().join("tree"), dir.path().join("outside"));
                fs::create_dir(&outside).unwrap();
                fs::write(outside.join("canary"), "alive").unwrap();
                fs::create_dir(&tree).unwrap();
                make_deep(&tree, 3_000, &outside);
                remove(&tree).unwrap();
                assert!(!tree.exists());
                remove(&tree).unwrap();
                fs::create_dir(&tree).unwrap();
                make_deep(&tree, 3_000, &outside);
                clear(File::open(&tree).unwrap().as_fd()).unwrap();
                assert_eq!(fs::read_dir(&tree).unwrap().count(), 0);
                assert_eq!(fs::read_to_string(outside.join("canary")).unwrap(), "alive");
            },
        );
    }

    #[test]
    fn wide_directories_and_all_kinds_of_files_are_deleted() {
        let dir = TempDir::new().unwrap();
        let tree = dir.path().join("tree");
        for number in 0..300 {
            fs::create_dir_all(tree.join(format!("{number}/inner"))).unwrap();
            fs::write(tree.join(format!("{number}/file")), "").unwrap();
        }
        drop(std::os::unix::net::UnixListener::bind(tree.join("socket")).unwrap());
        symlink("/", tree.join("root")).unwrap();
        fs::set_permissions(tree.join("7"), fs::Permissions::from_mode(0o0)).unwrap();
        remove(&tree).unwrap();
        assert!(!tree.exists());
        let file = dir.path().join("file");
        fs::write(&file, "").unwrap();
        remove(&file).unwrap();
        assert!(!file.exists());
        remove(&dir.path().join("no/such")).unwrap();
    }
}
