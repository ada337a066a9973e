//! Reading files with secrets.

use std::fs::File;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use anyhow::{Context, Error, Result};
use nix::unistd::geteuid;
use zeroize::Zeroizing;

use super::{input, named_file};
use crate::model::{Refusal, RefusalKind};

/// The path that means standard input.
pub const STDIN: &str = "-";

/// Whether a file must be private.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FilePrivacy {
    /// A file of this user is refused if other users may read or write it, as ssh does with keys.
    Required,
    Optional,
}

/// Reads a file, a pipe or standard input (`-`) to its end, at most `limit` bytes.
///
/// From then on this process leaves no core file, and only root can read its memory.
///
/// # Errors
/// `NotFound`, or `Usage`: the file is too large, not private, or a directory. The message does not quote the content.
pub fn read(path: &Path, limit: usize, privacy: FilePrivacy) -> Result<Zeroizing<Vec<u8>>> {
    nix::sys::prctl::set_dumpable(false).context("cannot hide this process's memory")?;
    let failed = |why: std::io::Error| {
        named_file::refusal(Error::new(why).context(format!("cannot read {}", path.display())))
    };
    let is_stdin = path.as_os_str() == STDIN;
    let (file, name) = if is_stdin {
        let stdin = std::io::stdin().as_fd().try_clone_to_owned();
        (File::from(stdin.context("cannot use standard input")?), "standard input".to_owned())
    } else {
        (input::open(path).map_err(failed)?, path.display().to_string())
    };
    let about = file.metadata().map_err(failed)?;
    let ours = about.is_file() && about.uid() == geteuid().as_raw();
    if privacy == FilePrivacy::Required && ours && about.mode() & 0o077 != 0 && !is_stdin {
        let mode = about.mode() & 0o7777;
        let message = format!("other users have access to {name} (mode {mode:04o})");
        let hint = format!("make it private with 'chmod 600 {name}'");
        return Err(Refusal::new(RefusalKind::Usage, message).hint(hint).into());
    }
    let taken = take(&file, limit).map_err(|error| match error.downcast::<std::io::Error>() {
        Ok(error) => failed(error),
        Err(interrupted) => interrupted,
    })?;
    taken.ok_or_else(|| {
        let message = format!("{name} is larger than the limit of {} KiB", limit / 1024);
        Refusal::new(RefusalKind::Usage, message).into()
    })
}

/// Reads to the end; `None` if there are more than `limit` bytes.
fn take(file: &File, limit: usize) -> Result<Option<Zeroizing<Vec<u8>>>> {
    // Allocated once: growing would leave a copy of the content in freed memory.
    let mut bytes = Zeroizing::new(vec![0; limit + 1]);
    let mut count = 0;
    while count <= limit {
        match input::read(file, &mut bytes[count..])? {
            0 => {
                bytes.truncate(count);
                return Ok(Some(bytes));
            }
            more => count += more,
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_file_is_read_to_its_end_and_not_beyond_the_limit() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        fs::write(&path, "0123456789").unwrap();
        assert_eq!(*read(&path, 10, FilePrivacy::Optional).unwrap(), b"0123456789");
        let error = read(&path, 9, FilePrivacy::Optional).unwrap_err();
        assert!(Refusal::find(&error).unwrap().message.contains("is larger than"), "{error}");
        assert!(read(dir.path(), 9, FilePrivacy::Optional).is_err());
        let error = read(&dir.path().join("none"), 9, FilePrivacy::Optional).unwrap_err();
        assert!(error.to_string().contains("No such file"), "{error}");
    }

    #[test]
    fn a_file_that_must_be_private_is_refused_if_it_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        fs::write(&path, "word").unwrap();
        for (mode, good) in [(0o600, true), (0o400, true), (0o640, false), (0o604, false)] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            assert_eq!(read(&path, 9, FilePrivacy::Required).is_ok(), good, "{mode:o}");
            assert!(read(&path, 9, FilePrivacy::Optional).is_ok());
        }
    }
}
