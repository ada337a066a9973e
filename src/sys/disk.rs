//! Free space of file systems.

use std::io;
use std::os::fd::AsFd;
use std::path::Path;

use rustix::fs::{StatVfs, fstatvfs, statvfs};

/// Bytes that an ordinary user may still write in the file system of `path`.
pub fn free_at(path: &Path) -> io::Result<u64> {
    Ok(free(&statvfs(path)?))
}

/// Bytes that an ordinary user may still write in the file system of an open file.
pub fn free_around(file: impl AsFd) -> io::Result<u64> {
    Ok(free(&fstatvfs(file)?))
}

fn free(system: &StatVfs) -> u64 {
    system.f_bavail.saturating_mul(system.f_frsize)
}
