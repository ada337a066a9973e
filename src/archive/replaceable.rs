//! What a copied file may replace.
//!
//! A link that leads to a device, a FIFO or an open file, such as `/dev/stdout`, belongs to the system or to
//! other programs. Who names it wants to write there, and not to have it replaced by a file.

use std::ffi::{OsStr, OsString};
use std::os::fd::BorrowedFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;

use rustix::fs::{
    AtFlags, FileType, Mode, OFlags, PROC_SUPER_MAGIC, fstatfs, openat, readlinkat, statat,
};
use rustix::io::Errno;

/// How many links are followed, as by the kernel.
const MAX_LINKS: usize = 40;

/// Why a file must not replace what is at `name` in `directory`; `None` if it is a regular file, a link to one, a
/// dangling link, or nothing.
///
/// # Errors
/// Those of looking at it.
pub fn why_not(directory: BorrowedFd<'_>, name: &OsStr) -> Result<Option<&'static str>, Errno> {
    let mut directory = openat(directory, ".", PATH_ONLY, Mode::empty())?;
    let mut name = name.to_owned();
    for number in 0..MAX_LINKS {
        // The links there lead to files that processes have open, and nothing there can be replaced.
        if fstatfs(&directory)?.f_type == PROC_SUPER_MAGIC {
            return Ok(Some("is in /proc, or a link to there"));
        }
        let kind = match statat(&directory, &name, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT | Errno::NOTDIR) => return Ok(None),
            stat => FileType::from_raw_mode(stat?.st_mode),
        };
        let target = match (kind, number) {
            (FileType::RegularFile, _) => return Ok(None),
            (FileType::Symlink, _) => readlinkat(&directory, &name, Vec::new())?.into_bytes(),
            (FileType::Directory, 0) => return Ok(Some("is a directory")),
            (FileType::Directory, _) => return Ok(Some("is a link to a directory")),
            (_, 0) => return Ok(Some("is a device, FIFO or socket")),
            (_, _) => return Ok(Some("is a link to a device, FIFO or socket")),
        };
        let target = OsString::from_vec(target);
        let target = Path::new(&target);
        let Some(last) = target.file_name().filter(|_| !ends_in_dot(target)) else {
            return Ok(Some("is a link to a directory"));
        };
        let parent = target.parent().filter(|parent| !parent.as_os_str().is_empty());
        directory =
            match openat(&directory, parent.unwrap_or(Path::new(".")), PATH_ONLY, Mode::empty()) {
                Err(Errno::NOENT | Errno::NOTDIR) => return Ok(None),
                other => other?,
            };
        name = last.to_owned();
    }
    Err(Errno::LOOP)
}

const PATH_ONLY: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

/// Whether a path ends in `/.` or `/`, which [`Path::file_name`] ignores.
fn ends_in_dot(path: &Path) -> bool {
    let bytes = path.as_os_str().as_bytes();
    bytes.ends_with(b"/") || bytes.ends_with(b"/.")
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::os::fd::{AsFd, AsRawFd};
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn only_files_links_to_files_and_dangling_links_may_be_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        let opened = File::open(dir.path()).unwrap();
        fs::write(at("file"), "").unwrap();
        fs::create_dir(at("dir")).unwrap();
        rustix::fs::mkfifoat(&opened, "fifo", Mode::RUSR).unwrap();
        let file = File::open(at("file")).unwrap();
        let number = file.as_raw_fd();
        for (name, target) in [
            ("to-file", "file"),
            ("to-link", "./to-file"),
            ("dangling", "nowhere"),
            ("dangling-far", "no/where"),
            ("to-fifo", "fifo"),
            ("to-null", "/dev/null"),
            ("to-dir", "dir"),
            ("to-dot", "dir/."),
            ("up", ".."),
            ("root", "/"),
            ("to-open", &format!("/proc/self/fd/{number}")),
            ("to-closed", "/proc/self/fd/999999"),
            ("to-stdout", "/dev/stdout"),
            ("far", "to-stdout"),
        ] {
            symlink(target, at(name)).unwrap();
        }
        let why = |name: &str| why_not(opened.as_fd(), OsStr::new(name)).unwrap();
        for name in ["file", "to-file", "to-link", "dangling", "dangling-far", "new"] {
            assert_eq!(why(name), None, "{name}");
        }
        for (name, said) in [
            ("fifo", "is a device, FIFO or socket"),
            ("to-fifo", "is a link to a device, FIFO or socket"),
            ("to-null", "is a link to a device, FIFO or socket"),
            ("dir", "is a directory"),
            ("to-dir", "is a link to a directory"),
            ("to-dot", "is a link to a directory"),
            ("up", "is a link to a directory"),
            ("root", "is a link to a directory"),
            ("to-open", "is in /proc, or a link to there"),
            ("to-closed", "is in /proc, or a link to there"),
        ] {
            assert_eq!(why(name), Some(said), "{name}");
        }
        // Where a host has no such link, it dangles.
        if Path::new("/dev/stdout").is_symlink() {
            assert!(why("to-stdout").is_some() && why("far").is_some());
        }
        symlink("loop", at("loop")).unwrap();
        assert_eq!(why_not(opened.as_fd(), OsStr::new("loop")), Err(Errno::LOOP));
    }
}
