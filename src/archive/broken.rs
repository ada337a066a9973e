//! What is wrong with an archive.

use std::ffi::OsStr;
use std::fmt;
use std::os::unix::ffi::OsStrExt;

/// Bytes of a name in an error: enough to recognize it by.
const SHOWN: usize = 200;

/// What is wrong with an archive, in words that follow its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ArchiveError {
    /// It ended before its end.
    Truncated,
    /// This part of it is not valid.
    Malformed(&'static str),
    /// No file may be called this, and why.
    Name(Vec<u8>, &'static str),
    /// The type flag of this entry is not supported.
    Kind(Vec<u8>, u8),
    /// This entry is in no directory that is open, or was not asked for.
    Order(Vec<u8>),
    /// There are two entries of this name.
    Twice(Vec<u8>),
}

impl ArchiveError {
    pub fn name(path: &[u8], why: &'static str) -> ArchiveError {
        ArchiveError::Name(path[..path.len().min(SHOWN)].to_vec(), why)
    }

    pub fn kind(path: &[u8], code: u8) -> ArchiveError {
        ArchiveError::Kind(path[..path.len().min(SHOWN)].to_vec(), code)
    }
}

/// The name of an entry in a message, shortened and escaped.
pub fn shown(path: &[u8]) -> String {
    format!("{:?}", OsStr::from_bytes(&path[..path.len().min(SHOWN)]))
}

impl fmt::Display for ArchiveError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = OsStr::from_bytes;
        match self {
            ArchiveError::Truncated => write!(f, "it ends too early"),
            ArchiveError::Malformed(what) => write!(f, "{what} in it is malformed"),
            ArchiveError::Name(path, why) => write!(f, "the name {:?} in it {why}", shown(path)),
            ArchiveError::Kind(path, code) => {
                let code = char::from(*code).escape_default();
                write!(f, "{:?} in it is of type '{code}', which is not accepted", shown(path))
            }
            ArchiveError::Order(path) => {
                write!(f, "{:?} in it was not asked for", shown(path))
            }
            ArchiveError::Twice(path) => write!(f, "{:?} is in it twice", shown(path)),
        }
    }
}

impl std::error::Error for ArchiveError {}
