//! Opening, listing and emptying directories by descriptor, whatever their mode.

use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, chmod, fchmod, openat, statat, unlinkat};
use rustix::io::Errno;

use crate::sys::descriptor;
use crate::sys::file_system::OPEN_DIRECTORY;

/// How often a directory is listed until it is empty: twice, unless another process adds entries.
const PASSES: usize = 100;

/// Opens a directory that this process owns, whatever its mode.
pub fn open_any_mode(parent: BorrowedFd<'_>, name: &OsStr) -> Result<OwnedFd, Errno> {
    match openat(parent, name, OPEN_DIRECTORY, Mode::empty()) {
        Err(Errno::ACCESS) => {
            // Only through /proc can a mode be changed without following a link.
            let path = openat(parent, name, OPEN_DIRECTORY | OFlags::PATH, Mode::empty())?;
            chmod(descriptor::path(&path), Mode::RWXU)?;
            openat(parent, name, OPEN_DIRECTORY, Mode::empty())
        }
        other => other,
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

/// Calls `act`, which removes the entry of that name, until the directory is empty. A file system may
/// skip entries while others are removed, so it is listed again.
pub fn drain<E: From<Errno>>(
    directory: BorrowedFd<'_>,
    act: &mut dyn FnMut(&OsStr) -> Result<(), E>,
) -> Result<(), E> {
    for _ in 0..PASSES {
        let mut any = false;
        for_each_name(directory, &mut |name| {
            any = true;
            act(name)
        })?;
        if !any {
            return Ok(());
        }
    }
    Err(Errno::BUSY.into())
}

/// Deletes everything in a directory.
pub fn delete_contents(directory: BorrowedFd<'_>) -> Result<(), Errno> {
    // The modes of what arrived may keep even its owner out.
    let _ = fchmod(directory, Mode::RWXU);
    drain(directory, &mut |name| {
        let stat = statat(directory, name, AtFlags::SYMLINK_NOFOLLOW)?;
        if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
            // An empty directory can be removed without opening it.
            if let Ok(below) = open_any_mode(directory, name) {
                delete_contents(below.as_fd())?;
            }
            unlinkat(directory, name, AtFlags::REMOVEDIR)?;
        } else {
            unlinkat(directory, name, AtFlags::empty())?;
        }
        Ok(())
    })
}
