//! Files that set what mayfly does. A user who can write one can make mayfly run any program.

use std::fs::Metadata;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use nix::unistd::{getegid, geteuid};

use super::directories::xdg;
use crate::host::input;
use crate::model::{Refusal, RefusalKind};

/// Where the system's files are.
pub const SYSTEM_DIRECTORY: &str = "/etc/mayfly";

/// The most bytes of a settings file.
const LIMIT: usize = 1 << 20;

/// Where the user's files are. Root has only the system's, because its `HOME` may be another user's, as with
/// sudo.
pub fn user_directory() -> Option<PathBuf> {
    if geteuid().is_root() { None } else { xdg("XDG_CONFIG_HOME", ".config") }
}

/// Reads a file; `None` if it is missing and not `required`.
///
/// # Errors
/// `Host` if another user could have written it. It must belong to this user or to root, and only they and
/// an ordinary user's own group, which many systems give each user, may write it.
pub fn read(path: &Path, required: bool) -> Result<Option<String>> {
    let cannot = || format!("cannot read {}", path.display());
    let file = match input::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound && !required => return Ok(None),
        Err(error) => return Err(error).with_context(cannot),
    };
    // The metadata of the opened file, because the path may lead to another at any time.
    check(path, &file.metadata().with_context(cannot)?)?;
    let text = input::read_text(&file, LIMIT).with_context(cannot)?;
    let too_large = || Refusal::usage(format!("{} has more than 1 MiB", path.display()));
    text.ok_or_else(too_large).map(Some).map_err(Into::into)
}

fn check(path: &Path, about: &Metadata) -> Result<(), Refusal> {
    let me = geteuid();
    let refuse = |why: String, hint: &str| {
        Err(Refusal::new(RefusalKind::Host, format!("{} {why}", path.display())).hint(hint))
    };
    if about.uid() != me.as_raw() && about.uid() != 0 {
        let hint = "mayfly uses only your own files and root's; copy it";
        return refuse(format!("belongs to user {}, not to you", about.uid()), hint);
    }
    let by_group = about.mode() & 0o020 != 0 && (me.is_root() || about.gid() != getegid().as_raw());
    if about.mode() & 0o002 != 0 || by_group {
        let mode = about.mode() & 0o7777;
        let hint = format!("run 'chmod go-w {}'", path.display());
        return refuse(format!("can be written by others (mode {mode:04o})"), &hint);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

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
        // An ordinary user's files belong to a group of that user.
        assert_eq!(read_as(0o660).is_ok(), !geteuid().is_root());
        if geteuid().is_root() {
            std::os::unix::fs::chown(&path, Some(65_534), None).unwrap();
            assert!(read_as(0o600).unwrap_err().to_string().contains("belongs to user 65534"));
        }
    }

    #[test]
    fn a_file_may_be_missing_unless_it_was_named() {
        let missing = Path::new("/no/such/file.toml");
        assert_eq!(read(missing, false).unwrap(), None);
        assert!(read(missing, true).unwrap_err().to_string().contains("cannot read /no/such/file"));
    }
}
