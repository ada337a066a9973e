//! A version of the registry file that was parsed already.

use std::fs::{self, File, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;

use super::contents::Contents;

/// A version and what it holds.
///
/// As long as its file is open here, no other file can have its inode number, and a version is
/// replaced as a whole and never written to: so the same number at the same path is the same version.
/// Size and time are compared for the sake of those who write to it all the same.
#[derive(Debug)]
pub struct Seen {
    pub contents: Arc<Contents>,
    stamp: [i64; 5],
    _held: File,
}

impl Seen {
    /// The version in `file`, which is as it was when `meta` was taken.
    pub fn new(file: File, meta: &Metadata, contents: Arc<Contents>) -> Seen {
        Seen { contents, stamp: stamp(meta), _held: file }
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
