//! Moving a received copy to its destination by renaming, so that each file is either the old one or the
//! new one.
//!
//! An existing directory is merged with: it keeps its mode and time. An existing file is replaced, and so is a
//! symbolic link to one or to nothing. A directory is never replaced by a file, nor a file by a directory; a link is never followed to a
//! directory; devices, FIFOs and sockets are never replaced. All of this is checked before the first move.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use rustix::fs::{
    Access, AtFlags, FileType, Mode, Stat, accessat, fchmod, fstat, openat, renameat, statat,
    unlinkat,
};
use rustix::io::Errno;

use super::destination::CopyTarget;
use super::replaceable;
use super::staged::StagingDirectory;
use super::tree::CONTENT;
use crate::sys::directory_cursor::{DirectoryCursor, for_each_name, open_any_mode};
use crate::sys::file_system::OPEN_DIRECTORY;

/// How often a directory is listed until all its entries were moved: twice, unless another process adds some.
const PASSES: usize = 100;

/// Why an entry cannot be put in its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlaceConflict {
    /// Its path beneath the destination.
    pub path: PathBuf,
    pub why: &'static str,
}

impl fmt::Display for PlaceConflict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} {}", self.path, self.why)
    }
}

impl std::error::Error for PlaceConflict {}

impl StagingDirectory {
    /// Moves the copy to its place.
    ///
    /// # Errors
    /// [`PlaceConflict`] before anything is moved; and those of the file system.
    pub fn place(self, target: &CopyTarget) -> Result<()> {
        for pass in [Pass::Check, Pass::Rename] {
            match target {
                CopyTarget::As { parent, name } => {
                    let one = Move {
                        from: self.top(),
                        name: OsStr::new(CONTENT),
                        to: parent.as_fd(),
                        new_name: name,
                    };
                    one.go_deep(Path::new(name), pass)?;
                }
                CopyTarget::Into { directory } => {
                    let content = open_writable(self.top(), OsStr::new(CONTENT))
                        .context("cannot open the copy")?;
                    let directory = directory.try_clone().context("cannot hold the directory")?;
                    merge(content, directory, Path::new(""), pass)?;
                }
            }
        }
        Ok(())
    }
}

/// One entry, where it is and where it goes.
#[derive(Clone, Copy)]
struct Move<'a> {
    from: BorrowedFd<'a>,
    name: &'a OsStr,
    to: BorrowedFd<'a>,
    new_name: &'a OsStr,
}

/// All entries are visited twice.
#[derive(Clone, Copy)]
enum Pass {
    /// Checks whether it can be moved.
    Check,
    Rename,
}

/// How an entry gets to its place.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Placement {
    /// By renaming: nothing is there, or a file or link that it replaces.
    Rename,
    /// By moving the contents of the directory into the one that is there.
    Merge,
}

impl Move<'_> {
    /// Visits the entry and its contents.
    fn go_deep(self, path: &Path, pass: Pass) -> Result<()> {
        if self.go(path, pass)? == Placement::Merge {
            let (from, to) = self.open(path)?;
            merge(from, to, path, pass)?;
            if let Pass::Rename = pass {
                self.leave_behind(path)?;
            }
        }
        Ok(())
    }

    /// Visits the entry alone. A directory that is merged with one that is there stays where it is.
    fn go(self, path: &Path, pass: Pass) -> Result<Placement> {
        let placement = self.placement(path)?;
        if let (Placement::Rename, Pass::Rename) = (placement, pass) {
            self.rename().with_context(|| format!("cannot put {path:?} in place"))?;
        }
        Ok(placement)
    }

    fn placement(self, path: &Path) -> Result<Placement> {
        let look = |at, name| {
            statat(at, name, AtFlags::SYMLINK_NOFOLLOW)
                .map(|stat: Stat| FileType::from_raw_mode(stat.st_mode))
        };
        let arrived = look(self.from, self.name).context("cannot look at the copy")?;
        let there = match look(self.to, self.new_name) {
            Err(Errno::NOENT) => return Ok(Placement::Rename),
            other => other.with_context(|| format!("cannot look at {path:?}"))?,
        };
        let why = match (arrived == FileType::Directory, there) {
            (false, FileType::RegularFile) => return Ok(Placement::Rename),
            // The same link again, or another one.
            (false, FileType::Symlink) if arrived == FileType::Symlink => {
                return Ok(Placement::Rename);
            }
            (false, FileType::Symlink) => {
                match replaceable::why_not(self.to, self.new_name)
                    .with_context(|| format!("cannot look at {path:?}"))?
                {
                    None => return Ok(Placement::Rename),
                    Some(why) => why,
                }
            }
            (false, FileType::Directory) => "is a directory there, but not in the copy",
            (false, _) => "is a device, FIFO or socket there",
            (true, FileType::Directory) => return Ok(Placement::Merge),
            (true, FileType::Symlink) => "is a symbolic link there, but a directory in the copy",
            (true, _) => "is a file there, but a directory in the copy",
        };
        Err(PlaceConflict { path: path.to_owned(), why }.into())
    }

    /// Opens both directories of a merge.
    fn open(self, path: &Path) -> Result<(OwnedFd, OwnedFd)> {
        let cannot = || format!("cannot open {path:?}");
        let from = open_writable(self.from, self.name).with_context(cannot)?;
        let to =
            openat(self.to, self.new_name, OPEN_DIRECTORY, Mode::empty()).with_context(cannot)?;
        accessat(&to, ".", Access::WRITE_OK | Access::EXEC_OK, AtFlags::empty())
            .with_context(|| format!("cannot write in {path:?}"))?;
        if device(&from)? == device(&to)? {
            return Ok((from, to));
        }
        let why = "is in another file system there; copy into it separately";
        Err(PlaceConflict { path: path.to_owned(), why }.into())
    }

    fn rename(self) -> Result<(), Errno> {
        match renameat(self.from, self.name, self.to, self.new_name) {
            // Moving a directory changes its `..`, which requires write permission in it.
            Err(Errno::ACCESS) => {
                let there = statat(self.from, self.name, AtFlags::SYMLINK_NOFOLLOW)?;
                let directory = open_writable(self.from, self.name)?;
                renameat(self.from, self.name, self.to, self.new_name)?;
                fchmod(&directory, Mode::from_raw_mode(there.st_mode & 0o777))
            }
            other => other,
        }
    }

    /// Deletes a directory of the copy, whose contents were moved.
    fn leave_behind(self, path: &Path) -> Result<()> {
        unlinkat(self.from, self.name, AtFlags::REMOVEDIR)
            .with_context(|| format!("cannot put {path:?} in place"))
    }
}

/// Opens a directory of the copy, whatever its mode, so that its contents can be moved.
fn open_writable(parent: BorrowedFd<'_>, name: &OsStr) -> Result<OwnedFd, Errno> {
    let directory = open_any_mode(parent, name)?;
    fchmod(&directory, Mode::RWXU)?;
    Ok(directory)
}

/// Visits everything in a directory that goes into another one, with few descriptors for any depth.
fn merge(from: OwnedFd, to: OwnedFd, path: &Path, pass: Pass) -> Result<()> {
    let held = "cannot look at a directory";
    let mut from = DirectoryCursor::at(from).context(held)?;
    let mut to = DirectoryCursor::at(to).context(held)?;
    let mut path = path.to_owned();
    let mut waiting = vec![visit(from.here(), to.here(), &path, pass)?];
    while let Some(merges) = waiting.last_mut() {
        if let Some(name) = merges.pop() {
            path.push(&name);
            let one = Move { from: from.here(), name: &name, to: to.here(), new_name: &name };
            let (inner_from, inner_to) = one.open(&path)?;
            from.enter(&name, inner_from).context(held)?;
            to.enter(&name, inner_to).context(held)?;
            waiting.push(visit(from.here(), to.here(), &path, pass)?);
            continue;
        }
        waiting.pop();
        if from.depth() > 0 {
            let cannot = || format!("cannot leave {path:?}");
            let (_, name) = from.leave().with_context(cannot)?;
            to.leave().with_context(cannot)?;
            if let Pass::Rename = pass {
                let one = Move { from: from.here(), name: &name, to: to.here(), new_name: &name };
                one.leave_behind(&path)?;
            }
            path.pop();
        }
    }
    Ok(())
}

/// Visits the entries of one directory. Returns the directories that are merged with one that is there.
fn visit(
    from: BorrowedFd<'_>,
    to: BorrowedFd<'_>,
    path: &Path,
    pass: Pass,
) -> Result<Vec<OsString>> {
    // A file system may skip entries while others are moved, so the directory is listed again.
    for _ in 0..PASSES {
        let (mut merges, mut moved) = (Vec::new(), false);
        for_each_name(from, &mut |name| {
            match (Move { from, name, to, new_name: name }.go(&path.join(name), pass)?, pass) {
                (Placement::Merge, _) => merges.push(name.to_owned()),
                (Placement::Rename, Pass::Rename) => moved = true,
                (Placement::Rename, Pass::Check) => {}
            }
            Ok::<_, anyhow::Error>(())
        })?;
        if !moved {
            return Ok(merges);
        }
    }
    Err(Errno::BUSY).context("the copy changes while it is put in place")
}

fn device(fd: &OwnedFd) -> Result<u64> {
    let stat = fstat(fd).context("cannot look at a directory")?;
    Ok(stat.st_dev)
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::{PermissionsExt, symlink};
    use std::os::unix::net::UnixListener;

    use nix::unistd::{Gid, Uid, chown, geteuid, setfsgid, setfsuid};

    use super::*;
    use crate::archive::CopyDestination;

    const NOBODY: u32 = 65534;

    /// A copy staged in `at`, whose content `make` creates at the path it is given.
    fn arrived(at: &Path, make: impl FnOnce(&Path)) -> StagingDirectory {
        let destination = CopyDestination::look(at).unwrap();
        let staged = StagingDirectory::beside(destination.directory().as_fd()).unwrap();
        let staging = names(at);
        let name = staging.iter().find(|name| name.starts_with(".mayfly")).unwrap();
        make(&at.join(name).join(CONTENT));
        staged
    }

    fn names(at: &Path) -> Vec<String> {
        let entries = fs::read_dir(at).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }

    fn into(at: &Path) -> CopyTarget {
        let directory = CopyDestination::look(at).unwrap().directory().try_clone().unwrap();
        CopyTarget::Into { directory }
    }

    fn mode(path: &Path, mode: u32) {
        fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    }

    /// Acts in a directory as a user who is not root.
    fn as_nobody(at: &Path, act: impl FnOnce() + Send) {
        std::thread::scope(|scope| {
            // The user for file access belongs to the thread.
            let _ = scope.spawn(|| {
                if geteuid().is_root() {
                    chown(at, Some(Uid::from_raw(NOBODY)), Some(Gid::from_raw(NOBODY))).unwrap();
                    setfsgid(Gid::from_raw(NOBODY));
                    setfsuid(Uid::from_raw(NOBODY));
                }
                act();
            });
        });
    }

    #[test]
    fn directories_without_write_permission_are_merged() {
        let dir = tempfile::tempdir().unwrap();
        let at = dir.path();
        as_nobody(at, || {
            fs::create_dir_all(at.join("shut/inner")).unwrap();
            let staged = arrived(at, |content| {
                fs::create_dir_all(content.join("shut/inner")).unwrap();
                fs::create_dir_all(content.join("shut/new")).unwrap();
                for file in ["shut/inner/a", "shut/b", "shut/new/c"] {
                    fs::write(content.join(file), file).unwrap();
                }
                for (directory, bits) in
                    [("shut/inner", 0o000), ("shut/new", 0o500), ("shut", 0o500), ("", 0o500)]
                {
                    mode(&content.join(directory), bits);
                }
            });
            staged.place(&into(at)).unwrap();
            for file in ["shut/inner/a", "shut/b", "shut/new/c"] {
                assert_eq!(fs::read_to_string(at.join(file)).unwrap(), file);
            }
            let bits = |path| fs::metadata(at.join(path)).unwrap().permissions().mode() & 0o777;
            assert_eq!(bits("shut/new"), 0o500);
            assert_eq!(names(at), ["shut"]);
            mode(&at.join("shut/new"), 0o700);
        });
    }

    #[test]
    fn only_files_and_links_are_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let at = dir.path();
        let _listener = UnixListener::bind(at.join("s")).unwrap();
        fs::write(at.join("f"), "old").unwrap();
        symlink("nowhere", at.join("l")).unwrap();
        for (name, replaced) in [("f", true), ("l", true), ("s", false)] {
            let staged = arrived(at, |content| {
                fs::create_dir(content).unwrap();
                fs::write(content.join(name), "new").unwrap();
            });
            let placed = staged.place(&into(at)).map_err(|error| error.to_string());
            let refused = Err(format!("{name:?} is a device, FIFO or socket there"));
            assert_eq!(placed, if replaced { Ok(()) } else { refused });
            assert_eq!(fs::read_to_string(at.join(name)).is_ok_and(|text| text == "new"), replaced);
        }
        assert!(fs::metadata(at.join("l")).unwrap().is_file());
    }

    #[test]
    fn large_and_deep_directories_are_merged() {
        let dir = tempfile::tempdir().unwrap();
        let at = dir.path();
        let deep = "d/".repeat(60);
        fs::create_dir_all(at.join(&deep)).unwrap();
        let staged = arrived(at, |content| {
            fs::create_dir_all(content.join(&deep)).unwrap();
            for number in 0..3_000 {
                fs::write(content.join("d").join(number.to_string()), "").unwrap();
            }
            fs::write(content.join(&deep).join("f"), "").unwrap();
        });
        staged.place(&into(at)).unwrap();
        assert_eq!(names(&at.join("d")).len(), 3_001);
        assert!(at.join(deep).join("f").exists());
        assert_eq!(names(at), ["d"]);
        // A copy that is not placed is deleted.
        let staged = arrived(at, |content| {
            fs::create_dir(content).unwrap();
            for number in 0..3_000 {
                fs::write(content.join(number.to_string()), "").unwrap();
            }
        });
        drop(staged);
        assert_eq!(names(at), ["d"]);
    }
}
