//! Versions of the registry file, to tell whether there is a newer one.

use std::fs::{self, File, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// One version of a file that is replaced as a whole and never written to.
///
/// As long as it is held open here, no other file can have its inode number: the same number at the
/// same path is the same version. Size and time are compared for the sake of those who write to it
/// all the same.
#[derive(Debug)]
pub struct FileVersion {
    stamp: [i64; 5],
    _held: File,
}

impl FileVersion {
    /// The version at `path`, and its content.
    pub fn read(path: &Path) -> io::Result<(FileVersion, Vec<u8>)> {
        let mut file = File::open(path)?;
        let stamp = stamp(&file.metadata()?);
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        Ok((FileVersion { stamp, _held: file }, bytes))
    }

    /// The version in a file that was written just now.
    pub fn of(file: File) -> io::Result<FileVersion> {
        Ok(FileVersion { stamp: stamp(&file.metadata()?), _held: file })
    }

    /// Whether this is the version at `path` now.
    pub fn is_at(&self, path: &Path) -> bool {
        fs::metadata(path).is_ok_and(|meta| stamp(&meta) == self.stamp)
    }
}

fn stamp(meta: &Metadata) -> [i64; 5] {
    let (dev, ino) = (meta.dev().cast_signed(), meta.ino().cast_signed());
    [dev, ino, meta.len().cast_signed(), meta.ctime(), meta.ctime_nsec()]
}
