//! Putting what has arrived in its place: by renaming, so that each file is either the old one or the
//! new one.
//!
//! Where a directory is there already, what arrived is put into it, and it keeps its mode and time. A
//! file, or a link, that is there is replaced. A directory is never replaced by a file, nor a file by a
//! directory; and a link is never taken for the directory it leads to. All that is looked at before the
//! first thing is moved.

use std::ffi::OsStr;
use std::fmt;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use rustix::fs::{
    Access, AtFlags, FileType, Mode, Stat, accessat, fchmod, fstat, openat, renameat, statat,
};
use rustix::io::Errno;

use super::destination::Target;
use super::staged::{Staged, names};
use super::tree::{CONTENT, HOLD};

/// Why something cannot be put where it belongs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InTheWay {
    /// Beneath the destination.
    pub path: PathBuf,
    pub why: &'static str,
}

impl fmt::Display for InTheWay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} {}", self.path, self.why)
    }
}

impl std::error::Error for InTheWay {}

impl Staged {
    /// Puts what arrived in its place.
    ///
    /// # Errors
    /// [`InTheWay`], and nothing was moved then; what the file system says.
    pub fn place(self, target: &Target) -> Result<()> {
        match target {
            Target::As { parent, name } => {
                let one = Move {
                    from: self.top(),
                    name: OsStr::new(CONTENT),
                    to: parent.as_fd(),
                    new_name: name,
                };
                one.go(Path::new(name), Pass::Look)?;
                one.go(Path::new(name), Pass::Rename)
            }
            Target::Into { directory } => {
                let content = openat(self.top(), CONTENT, HOLD, Mode::empty())
                    .map_err(std::io::Error::from)
                    .context("cannot open what arrived")?;
                let (from, to) = (content.as_fd(), directory.as_fd());
                each(from, to, Path::new(""), Pass::Look)?;
                each(from, to, Path::new(""), Pass::Rename)
            }
        }
    }
}

/// One entry on its way.
#[derive(Clone, Copy)]
struct Move<'a> {
    from: BorrowedFd<'a>,
    name: &'a OsStr,
    to: BorrowedFd<'a>,
    new_name: &'a OsStr,
}

/// All is gone through twice.
#[derive(Clone, Copy)]
enum Pass {
    /// Whether it can be moved.
    Look,
    Rename,
}

/// What is to be done about an entry.
enum Way {
    /// It takes its place, which is free or a file's.
    Rename,
    /// What is in it is put into the directory that is there.
    Merge(OwnedFd, OwnedFd),
}

impl Move<'_> {
    /// Goes through it and all that is in it.
    fn go(self, path: &Path, pass: Pass) -> Result<()> {
        match (self.way(path)?, pass) {
            (Way::Merge(from, to), _) => each(from.as_fd(), to.as_fd(), path, pass),
            (Way::Rename, Pass::Look) => Ok(()),
            (Way::Rename, Pass::Rename) => self
                .rename()
                .map_err(std::io::Error::from)
                .with_context(|| format!("cannot put {path:?} in place")),
        }
    }

    fn way(self, path: &Path) -> Result<Way> {
        let in_the_way = |why| InTheWay { path: path.to_owned(), why };
        let look = |at, name| {
            statat(at, name, AtFlags::SYMLINK_NOFOLLOW)
                .map(|stat: Stat| FileType::from_raw_mode(stat.st_mode))
        };
        let arrived = look(self.from, self.name)
            .map_err(std::io::Error::from)
            .context("cannot look at what arrived")?;
        let there = match look(self.to, self.new_name) {
            Err(Errno::NOENT) => return Ok(Way::Rename),
            other => other
                .map_err(std::io::Error::from)
                .with_context(|| format!("cannot look at {path:?}"))?,
        };
        let directory = FileType::Directory;
        match (arrived == directory, there) {
            (false, there) if there == directory => {
                Err(in_the_way("is a directory there, and no directory in what is copied").into())
            }
            (false, _) => Ok(Way::Rename),
            (true, there) if there == directory => {
                let hold = |at, name| {
                    openat(at, name, HOLD, Mode::empty())
                        .map_err(std::io::Error::from)
                        .with_context(|| format!("cannot open {path:?}"))
                };
                let (from, to) = (hold(self.from, self.name)?, hold(self.to, self.new_name)?);
                let may = accessat(&to, ".", Access::WRITE_OK | Access::EXEC_OK, AtFlags::empty());
                may.map_err(std::io::Error::from)
                    .with_context(|| format!("cannot write in {path:?}"))?;
                match device(&from)? == device(&to)? {
                    true => Ok(Way::Merge(from, to)),
                    false => {
                        Err(in_the_way("is in another file system there; copy into it by itself")
                            .into())
                    }
                }
            }
            (true, FileType::Symlink) => {
                Err(in_the_way("is a symbolic link there, and a directory in what is copied")
                    .into())
            }
            (true, _) => {
                Err(in_the_way("is a file there, and a directory in what is copied").into())
            }
        }
    }

    fn rename(self) -> Result<(), Errno> {
        match renameat(self.from, self.name, self.to, self.new_name) {
            // Only who may write in a directory may move it, because that changes its parent.
            Err(Errno::ACCESS) => {
                let directory = openat(self.from, self.name, HOLD, Mode::empty())?;
                let mode = Mode::from_raw_mode(fstat(&directory)?.st_mode & 0o777);
                fchmod(&directory, mode | Mode::RWXU)?;
                renameat(self.from, self.name, self.to, self.new_name)?;
                fchmod(&directory, mode)
            }
            other => other,
        }
    }
}

/// Goes through the entries of a directory that belong into another one.
fn each(from: BorrowedFd<'_>, to: BorrowedFd<'_>, path: &Path, pass: Pass) -> Result<()> {
    let all = names(from).map_err(std::io::Error::from).context("cannot list what arrived")?;
    all.iter()
        .try_for_each(|name| Move { from, name, to, new_name: name }.go(&path.join(name), pass))
}

fn device(fd: &OwnedFd) -> Result<u64> {
    let stat = fstat(fd).map_err(std::io::Error::from).context("cannot look at a directory")?;
    Ok(stat.st_dev)
}
