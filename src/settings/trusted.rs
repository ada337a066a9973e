//! Files that set what mayfly does. A user who can write one can make mayfly run any program.

use std::fs::Metadata;
use std::io::ErrorKind;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Error, Result};
use nix::unistd::geteuid;
use rustix::fs::makedev;

use super::directories::xdg;
use crate::host::{input, named_file, ownership};
use crate::model::Refusal;

/// Where the system's files are.
pub const SYSTEM_DIRECTORY: &str = "/etc/mayfly";

/// The most bytes of a settings file.
const LIMIT: usize = 1 << 20;

/// Where the user's files are. Root has only the system's, because its `HOME` may be another user's, as with
/// sudo.
pub fn user_directory() -> Option<PathBuf> {
    if geteuid().is_root() { None } else { xdg("XDG_CONFIG_HOME", ".config") }
}

/// Reads a file; `None` if it is missing and not `required`. Only a required file, which the user has named, may be
/// something else: a pipe, or /dev/null, which is empty.
///
/// # Errors
/// `Usage` if it is required and no file. `Host` if another user could have written it or put it there. It must belong to this user or to root, and only
/// they and an ordinary user's own group, which many systems give each user, may write it and the directories
/// above it.
pub fn read(path: &Path, required: bool) -> Result<Option<String>> {
    // First, so that afterwards the path leads to the same file.
    ownership::check_way(path)?;
    let cannot = || format!("cannot read {}", path.display());
    let file = match input::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound && !required => return Ok(None),
        Err(error) => return Err(named_file::refusal(Error::new(error).context(cannot()))),
    };
    let about = file.metadata().with_context(cannot)?;
    if is_null(&about) && required {
        return Ok(Some(String::new()));
    }
    let is_right = |about: &Metadata| about.is_file() || (required && about.file_type().is_fifo());
    if required && !is_right(&about) {
        let refusal = Refusal::usage(format!("{} is not a regular file", path.display()));
        return Err(refusal.hint("name a file, or /dev/null for none").into());
    }
    ownership::check_kind(path, &about, is_right, "a regular file")?;
    ownership::check(path, &about)?;
    let text = input::read_text(&file, LIMIT).with_context(cannot)?;
    let too_large = || Refusal::usage(format!("{} has more than 1 MiB", path.display()));
    text.ok_or_else(too_large).map(Some).map_err(Into::into)
}

/// Whether it is /dev/null, which every user can write, and none can change. Its number is in
/// `Documentation/admin-guide/devices.txt` of Linux.
fn is_null(about: &Metadata) -> bool {
    about.file_type().is_char_device() && about.rdev() == makedev(1, 3)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::model::RefusalKind;

    #[test]
    fn files_that_others_can_write_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        fs::write(&path, "text").unwrap();
        let read_as = |mode| {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            read(&path, true)
        };
        for mode in [0o600, 0o644, 0o444] {
            assert_eq!(read_as(mode).unwrap().as_deref(), Some("text"), "{mode:o}");
        }
        for mode in [0o646, 0o602] {
            let refused = read_as(mode).unwrap_err();
            assert_eq!(Refusal::find(&refused).unwrap().kind, RefusalKind::Host, "{mode:o}");
        }
        if geteuid().is_root() {
            std::os::unix::fs::chown(&path, Some(65_534), None).unwrap();
            assert!(read_as(0o600).unwrap_err().to_string().contains("belongs to user 65534"));
        }
    }

    #[test]
    fn files_that_others_can_replace_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let (shared, link) = (dir.path().join("shared"), dir.path().join("link"));
        fs::create_dir(&shared).unwrap();
        fs::write(shared.join("file"), "text").unwrap();
        std::os::unix::fs::symlink(shared.join("file"), &link).unwrap();
        for path in [shared.join("file"), link] {
            for (mode, good) in [(0o755, true), (0o777, false), (0o1777, true)] {
                fs::set_permissions(&shared, fs::Permissions::from_mode(mode)).unwrap();
                assert_eq!(read(&path, false).is_ok(), good, "{} {mode:o}", path.display());
            }
        }
    }

    #[test]
    fn a_named_file_may_be_null_or_a_pipe_but_no_other_device() {
        assert_eq!(read(Path::new("/dev/null"), true).unwrap().as_deref(), Some(""));
        assert!(read(Path::new("/dev/null"), false).is_err());
        let error = read(Path::new("/dev/zero"), true).unwrap_err();
        assert_eq!(error.to_string(), "/dev/zero is not a regular file");
        let (reader, mut writer) = std::io::pipe().unwrap();
        std::io::Write::write_all(&mut writer, b"text").unwrap();
        drop(writer);
        let path = format!("/dev/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&reader));
        assert_eq!(read(Path::new(&path), true).unwrap().as_deref(), Some("text"));
        let dir = tempfile::tempdir().unwrap();
        let pipe = dir.path().join("pipe");
        nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let error = read(&pipe, false).unwrap_err();
        assert!(error.to_string().ends_with("pipe is not a regular file"), "{error}");
    }

    #[test]
    fn a_file_may_be_missing_unless_it_was_named() {
        let missing = Path::new("/no/such/file.toml");
        assert_eq!(read(missing, false).unwrap(), None);
        assert!(read(missing, true).unwrap_err().to_string().contains("cannot read /no/such/file"));
    }
}
