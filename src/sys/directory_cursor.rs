//! Walking through a tree of any depth with one open directory.

use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

use rustix::fs::{Dir, Mode, OFlags, ResolveFlags, chmod, fstat, openat, openat2};
use rustix::io::Errno;

use super::descriptor;
use super::file_system::OPEN_DIRECTORY;

/// Device and inode of a directory.
type Identity = (u64, u64);

/// An open directory, and the way up to the one where the walk began.
///
/// The way up is `..`, so neither depth nor the length of a path costs descriptors. Another process may move
/// directories meanwhile: what `..` leads to is compared with what the walk came through.
#[derive(Debug)]
pub struct DirectoryCursor {
    here: OwnedFd,
    identity: Identity,
    /// The directories above: their identity, and the name that was entered there.
    above: Vec<(Identity, OsString)>,
}

impl DirectoryCursor {
    pub fn at(start: OwnedFd) -> Result<DirectoryCursor, Errno> {
        let identity = identity(start.as_fd())?;
        Ok(DirectoryCursor { here: start, identity, above: Vec::new() })
    }

    /// The directory where the walk is.
    pub fn here(&self) -> BorrowedFd<'_> {
        self.here.as_fd()
    }

    /// How many directories the walk is below its start.
    pub fn depth(&self) -> usize {
        self.above.len()
    }

    /// The names that were entered, outermost first.
    pub fn names(&self) -> impl DoubleEndedIterator<Item = &OsStr> {
        self.above.iter().map(|(_, name)| name.as_os_str())
    }

    /// Goes down to `inner`, which the caller opened as `name` in this directory. Its owner must be able to
    /// search it when the walk leaves it.
    pub fn enter(&mut self, name: &OsStr, inner: OwnedFd) -> Result<(), Errno> {
        let inside = identity(inner.as_fd())?;
        self.above.push((self.identity, name.to_owned()));
        (self.here, self.identity) = (inner, inside);
        Ok(())
    }

    /// Goes up. Returns the directory that the walk was in, and its name in this one.
    ///
    /// # Errors
    /// [`Errno::STALE`] if it was moved to another directory; [`Errno::INVAL`] at the start.
    pub fn leave(&mut self) -> Result<(OwnedFd, OsString), Errno> {
        let (wanted, name) = self.above.pop().ok_or(Errno::INVAL)?;
        let parent = openat(&self.here, "..", OPEN_DIRECTORY, Mode::empty())?;
        if identity(parent.as_fd())? != wanted {
            return Err(Errno::STALE);
        }
        self.identity = wanted;
        Ok((std::mem::replace(&mut self.here, parent), name))
    }
}

fn identity(directory: BorrowedFd<'_>) -> Result<Identity, Errno> {
    let stat = fstat(directory)?;
    Ok((stat.st_dev, stat.st_ino))
}

/// Opens a directory that this process owns, whatever its mode.
///
/// # Errors
/// [`Errno::XDEV`] if another file system is mounted there; [`Errno::NOTDIR`] or [`Errno::LOOP`] if it is not a
/// directory.
pub fn open_any_mode(parent: BorrowedFd<'_>, name: &OsStr) -> Result<OwnedFd, Errno> {
    match open_inside(parent, name, OPEN_DIRECTORY) {
        Err(Errno::ACCESS) => {
            // Only through /proc can a mode be changed without following a link.
            let path = open_inside(parent, name, OPEN_DIRECTORY | OFlags::PATH)?;
            chmod(descriptor::path(&path), Mode::RWXU)?;
            open_inside(parent, name, OPEN_DIRECTORY)
        }
        other => other,
    }
}

/// Opens what is not a mount point.
fn open_inside(parent: BorrowedFd<'_>, name: &OsStr, flags: OFlags) -> Result<OwnedFd, Errno> {
    let resolve = ResolveFlags::NO_XDEV | ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    loop {
        match openat2(parent, name, flags, Mode::empty(), resolve) {
            // A rename elsewhere got in the way.
            Err(Errno::AGAIN | Errno::INTR) => {}
            // Kernels before 5.6, and sandboxes that forbid what they do not know.
            Err(Errno::NOSYS | Errno::PERM) => {
                let opened = openat(parent, name, flags, Mode::empty())?;
                let same = identity(opened.as_fd())?.0 == identity(parent)?.0;
                return if same { Ok(opened) } else { Err(Errno::XDEV) };
            }
            other => return other,
        }
    }
}

/// Calls `act` for each name in a directory. The names need not fit into memory.
pub fn for_each_name<E: From<Errno>>(
    directory: BorrowedFd<'_>,
    act: &mut dyn FnMut(&OsStr) -> Result<(), E>,
) -> Result<(), E> {
    for entry in Dir::read_from(directory)? {
        let entry = entry?;
        match entry.file_name().to_bytes() {
            b"." | b".." => {}
            name => act(OsStr::from_bytes(name))?,
        }
    }
    Ok(())
}
