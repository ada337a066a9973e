//! Versions of the registry file.

use crate::host::input;
use std::fs::{self, File, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// One version of a file that is replaced as a whole and never written to.
///
/// While it is held open, no other file can have its inode number, so the same number at the same path is
/// the same version. Size and time are compared in case a user edits the file in place.
#[derive(Debug)]
pub struct FileVersion {
    stamp: [i64; 5],
    _held: File,
}

impl FileVersion {
    /// The version at `path`, and its content.
    pub fn read(path: &Path) -> io::Result<(FileVersion, Vec<u8>)> {
        let mut file = input::open_regular(path)?;
        let stamp = stamp(&file.metadata()?);
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        Ok((FileVersion { stamp, _held: file }, bytes))
    }

    /// The version of a file that was just written.
    pub fn of(file: File) -> io::Result<FileVersion> {
        Ok(FileVersion { stamp: stamp(&file.metadata()?), _held: file })
    }

    /// Whether the file at `path` has this version.
    pub fn is_at(&self, path: &Path) -> bool {
        fs::metadata(path).is_ok_and(|meta| stamp(&meta) == self.stamp)
    }
}

fn stamp(meta: &Metadata) -> [i64; 5] {
    let (dev, ino) = (meta.dev().cast_signed(), meta.ino().cast_signed());
    [dev, ino, meta.len().cast_signed(), meta.ctime(), meta.ctime_nsec()]
}
