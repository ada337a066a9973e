//! The entries of an archive.

use rustix::fs::{Stat, Timespec, Timestamps, UTIME_OMIT};

use super::name::EntryName;

/// One file, directory or link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TarEntry {
    pub name: EntryName,
    pub kind: EntryKind,
    /// Permission bits only: set-user-ID and the like depend on the owner, and owners are not copied.
    pub mode: u32,
    pub modified: FileTime,
}

/// What an entry is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EntryKind {
    Directory,
    /// A regular file of this many bytes, which follow the entry.
    File {
        size: u64,
    },
    /// A symbolic link.
    Link {
        target: Vec<u8>,
    },
    /// A FIFO, socket or device: named in the archive, but not copied.
    Special,
}

/// A time since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct FileTime {
    pub seconds: i64,
    /// Below a billion. They count forward, before 1970 as well.
    pub nanoseconds: u32,
}

impl EntryKind {
    /// What it is, in a message.
    pub fn name(&self) -> &'static str {
        match self {
            EntryKind::Directory => "a directory",
            EntryKind::File { .. } => "a file",
            EntryKind::Link { .. } => "a symbolic link",
            EntryKind::Special => "a FIFO, socket or device",
        }
    }
}

impl FileTime {
    /// The time at which a file was last modified.
    pub fn of(stat: &Stat) -> FileTime {
        FileTime {
            seconds: stat.st_mtime,
            nanoseconds: u32::try_from(stat.st_mtime_nsec).unwrap_or_default(),
        }
    }

    /// Sets this as modification time and leaves the access time unchanged.
    pub fn stamps(self) -> Timestamps {
        Timestamps {
            last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
            last_modification: Timespec { tv_sec: self.seconds, tv_nsec: self.nanoseconds.into() },
        }
    }
}
