//! Checking names in archives.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use anyhow::{Result, bail};

use crate::model::Refusal;
use crate::sys::file_system::NAME_MAX;

/// The greatest depth of a directory. Deeper ones exist only to exhaust programs that walk through them.
pub const MAX_DEPTH: usize = 200;

/// Bytes of a whole name: less than PATH_MAX, because a prefix is added.
const MAX_LENGTH: usize = 3500;

/// The path of an entry, relative to the root; empty for the root itself.
///
/// # Errors
/// `Usage` for a name that leads out of the archive, or that no file can have.
pub fn place(name: &[u8]) -> Result<PathBuf> {
    let mut place = PathBuf::new();
    let mut depth = 0;
    for part in Path::new(OsStr::from_bytes(name)).components() {
        match part {
            // Absolute names are relative to the root of the archive.
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
            Component::ParentDir => return refuse(name, "leads out of the archive"),
            Component::Normal(part) if part.len() > NAME_MAX || part.as_bytes().contains(&0) => {
                return refuse(name, "cannot be the name of a file");
            }
            Component::Normal(part) => {
                place.push(part);
                depth += 1;
            }
        }
    }
    if depth > MAX_DEPTH || place.as_os_str().len() > MAX_LENGTH {
        return refuse(name, "is too deep");
    }
    Ok(place)
}

/// A name in a message, shortened and escaped.
pub fn shown(name: &[u8]) -> String {
    let text: String = String::from_utf8_lossy(name).chars().take(80).collect();
    let dots = if text.len() < name.len() { "..." } else { "" };
    format!("{text:?}{dots}")
}

fn refuse(name: &[u8], why: &str) -> Result<PathBuf> {
    bail!(
        Refusal::usage(format!("{} {why}", shown(name)))
            .hint("nothing was imported: do not trust this archive")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stay_inside() {
        for (name, wanted) in [
            ("etc/passwd", "etc/passwd"),
            ("./etc//passwd", "etc/passwd"),
            ("/etc/./passwd/", "etc/passwd"),
            ("", ""),
            ("./", ""),
            ("/", ""),
        ] {
            assert_eq!(place(name.as_bytes()).unwrap(), Path::new(wanted), "{name}");
        }
        let (deep, long) = ("d/".repeat(MAX_DEPTH + 1), "x".repeat(256));
        for bad in ["..", "../x", "/..", "a/../b", "a/..", &deep, &long, "a\0b"] {
            assert!(place(bad.as_bytes()).is_err(), "{bad}");
        }
    }

    #[test]
    fn names_are_shown_harmlessly() {
        assert_eq!(shown(b"a\x1b[2J"), "\"a\\u{1b}[2J\"");
        assert!(shown(&[b'x'; 5000]).len() < 100);
    }
}
