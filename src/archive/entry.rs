//! What a stream is made of.

use rustix::fs::{Stat, Timespec, Timestamps, UTIME_OMIT};

use super::name::EntryName;

/// One file, directory or link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TarEntry {
    pub name: EntryName,
    pub kind: EntryKind,
    /// Permission bits, and no others: set-user-ID and its like mean something only together with an
    /// owner, and owners are not copied.
    pub mode: u32,
    pub modified: FileTime,
}

/// What an entry is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EntryKind {
    Directory,
    /// A regular file, followed by this many bytes.
    File {
        size: u64,
    },
    /// A symbolic link to this.
    Link {
        target: Vec<u8>,
    },
    /// Something that is named and not carried: a FIFO, a socket, a device.
    Special,
}

/// A moment, since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct FileTime {
    pub seconds: i64,
    /// Below a billion; they go forward also before 1970.
    pub nanoseconds: u32,
}

impl EntryKind {
    /// In a sentence for people.
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
    /// When a file was changed last.
    pub fn of(stat: &Stat) -> FileTime {
        FileTime {
            seconds: stat.st_mtime,
            nanoseconds: u32::try_from(stat.st_mtime_nsec).unwrap_or_default(),
        }
    }

    /// This as a time of modification, leaving that of access as it is.
    pub fn stamps(self) -> Timestamps {
        Timestamps {
            last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
            last_modification: Timespec { tv_sec: self.seconds, tv_nsec: self.nanoseconds.into() },
        }
    }
}
