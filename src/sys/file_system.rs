//! Properties of file systems.

use std::io::{self, ErrorKind};
use std::os::fd::AsFd;
use std::path::Path;

use rustix::fs::{OFlags, StatVfs, fstatfs, fstatvfs, statvfs};

/// The longest name of one file on Linux, in bytes.
pub const NAME_MAX: usize = 255;

/// The longest path and the longest target of a link on Linux, in bytes.
pub const PATH_MAX: usize = 4096;

/// Opens a directory, and no link to one.
pub const OPEN_DIRECTORY: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// Bytes that an ordinary user may still write in the file system of `path`.
pub fn free_at(path: &Path) -> io::Result<u64> {
    Ok(free(&statvfs(path)?))
}

/// Bytes that an ordinary user may still write in the file system of an open file.
pub fn free_around(file: impl AsFd) -> io::Result<u64> {
    Ok(free(&fstatvfs(file)?))
}

/// `None` for a file that does not exist.
pub fn if_exists<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        result => result.map(Some),
    }
}

/// Whether the file system of an open file has no disk: it is a tmpfs or a ramfs.
pub fn is_in_memory(file: impl AsFd) -> io::Result<bool> {
    /// Of `linux/magic.h`.
    const IN_MEMORY: [u32; 2] = [0x0102_1994, 0x8584_58f6];
    Ok(IN_MEMORY.contains(&(fstatfs(file)?.f_type as u32)))
}

fn free(system: &StatVfs) -> u64 {
    system.f_bavail.saturating_mul(system.f_frsize)
}
