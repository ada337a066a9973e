//! Checked names of entries.

use std::ffi::OsStr;
use std::fmt;
use std::os::unix::ffi::OsStrExt;

use super::broken::ArchiveError;
use crate::sys::file_system::{NAME_MAX, PATH_MAX};

/// The path of an entry beneath the root of a stream, split into names. The root has none.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct EntryName(Vec<Vec<u8>>);

impl EntryName {
    /// The name of the root.
    pub fn root() -> EntryName {
        EntryName::default()
    }

    /// Parses a path in an archive. `.` parts and doubled slashes are ignored.
    ///
    /// # Errors
    /// [`ArchiveError::Name`] if it is absolute, goes up, or cannot be the name of a file.
    pub fn parse(path: &[u8]) -> Result<EntryName, ArchiveError> {
        let refuse = |why: &'static str| Err(ArchiveError::name(path, why));
        if path.first() == Some(&b'/') {
            return refuse("is absolute");
        }
        if path.len() > PATH_MAX {
            return refuse("is too long");
        }
        if path.contains(&0) {
            return refuse("has a null byte");
        }
        let parts: Vec<Vec<u8>> = path
            .split(|&byte| byte == b'/')
            .filter(|part| !part.is_empty() && *part != b".")
            .map(<[u8]>::to_vec)
            .collect();
        if parts.iter().any(|part| part == b"..") {
            return refuse("goes up");
        }
        if parts.iter().any(|part| part.len() > NAME_MAX) {
            return refuse("has a part that is too long");
        }
        Ok(EntryName(parts))
    }

    /// The names on the way, outermost first.
    pub fn parts(&self) -> &[Vec<u8>] {
        &self.0
    }

    pub fn is_root(&self) -> bool {
        self.0.is_empty()
    }

    /// The names of its directory, and its name there; `None` for the root.
    pub fn split(&self) -> Option<(&[Vec<u8>], &OsStr)> {
        let (last, parent) = self.0.split_last()?;
        Some((parent, OsStr::from_bytes(last)))
    }

    /// This name beneath `top`.
    pub fn beneath(&self, top: &OsStr) -> EntryName {
        let mut parts = vec![top.as_bytes().to_vec()];
        parts.extend(self.0.iter().cloned());
        EntryName(parts)
    }

    /// The path as it is in an archive.
    pub fn to_bytes(&self) -> Vec<u8> {
        if self.is_root() { b".".to_vec() } else { self.0.join(&b'/') }
    }
}

impl fmt::Display for EntryName {
    /// For messages. The caller escapes it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        OsStr::from_bytes(&self.to_bytes()).display().fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_lead_elsewhere_are_refused() {
        for bad in [
            &b"/etc/passwd"[..],
            b"..",
            b"a/../b",
            b"a/..",
            b"./../x",
            b"a\0b",
            &[b'x'; 256],
            &b"dddddddddd/".repeat(400),
        ] {
            assert!(EntryName::parse(bad).is_err(), "{:?}", OsStr::from_bytes(bad));
        }
    }

    #[test]
    fn all_other_names_keep_their_bytes() {
        for (path, plain) in [
            (&b"."[..], &b"."[..]),
            (b"", b"."),
            (b"./a//b/", b"a/b"),
            (b"...", b"..."),
            (b"..a/b..", b"..a/b.."),
            (b"\xff\x1b[2J\n", b"\xff\x1b[2J\n"),
        ] {
            assert_eq!(EntryName::parse(path).unwrap().to_bytes(), plain);
        }
        let name = EntryName::parse(b"a/b").unwrap();
        assert_eq!(name.beneath(OsStr::new("top")).to_bytes(), b"top/a/b");
        assert_eq!(EntryName::root().beneath(OsStr::new("top")).to_bytes(), b"top");
        assert_eq!(name.split().unwrap().1, "b");
    }
}
