//! The file of a log.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use anyhow::{Context, Result};

/// The most bytes in a log: enough for many verbose boots.
pub const MAX_BYTES: u64 = 1 << 20;

/// The hole before a log ends at a multiple of this. As it is a multiple of every file system's block size, the
/// first byte of data in the file is the first byte of the log.
const HOLE_UNIT: u64 = 1 << 20;

/// The limit on the size of files for a program that writes a log and files of up to `largest` bytes.
pub fn limit(largest: u64) -> u64 {
    largest.next_multiple_of(HOLE_UNIT) + MAX_BYTES
}

/// Opens a log for appending and empties it. A program with `limit` as its limit on the size of files can write
/// [`MAX_BYTES`] bytes to it.
///
/// # Errors
/// The file cannot be opened or emptied, or is a symbolic link.
pub fn open(path: &Path, limit: Option<u64>) -> Result<File> {
    let file = open_to_append(path)?;
    let hole = limit.map_or(0, |limit| limit - MAX_BYTES);
    // In two steps, because the second alone would keep the old content.
    let emptied = file.set_len(0).and_then(|()| file.set_len(hole));
    emptied.with_context(|| format!("cannot empty {}", path.display()))?;
    Ok(file)
}

/// Opens a log for appending, and creates it if it is missing.
///
/// # Errors
/// The file cannot be opened, or is a symbolic link.
pub fn open_to_append(path: &Path) -> Result<File> {
    OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o600)
        .custom_flags(nix::libc::O_NOFOLLOW)
        .open(path)
        .with_context(|| format!("cannot open {}", path.display()))
}

/// The last `lines` lines of a log, or of its last 16 KiB; empty if there is no log. Each line is cut at 200
/// characters, because the guest decides how long it is.
pub fn tail(path: &Path, lines: usize) -> Vec<String> {
    const LINE: usize = 200;
    let read = || last_bytes(&mut open_to_read(path)?, 16 << 10);
    let text = String::from_utf8_lossy(&read().unwrap_or_default()).into_owned();
    let all: Vec<String> = text
        .lines()
        .map(|line| line.trim_end().chars().take(LINE).collect::<String>())
        .filter(|line| !line.is_empty())
        .collect();
    all[all.len().saturating_sub(lines)..].to_vec()
}

/// Opens a log to read. A VMM that a guest has taken over may have replaced it by something else: symbolic
/// links are refused, and opening a pipe does not wait.
pub(super) fn open_to_read(path: &Path) -> std::io::Result<File> {
    let flags = nix::libc::O_NOFOLLOW | nix::libc::O_NONBLOCK;
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    if file.metadata()?.is_file() {
        Ok(file)
    } else {
        Err(std::io::Error::other("it is not a regular file"))
    }
}

/// Shortens a log that is more than half full to an eighth of [`MAX_BYTES`]. Another process may append to it
/// meanwhile; what it writes in the same instant may be lost or misplaced. Errors are ignored.
pub fn trim(path: &Path) {
    if path.symlink_metadata().is_ok_and(|meta| meta.is_file() && meta.len() > MAX_BYTES / 2) {
        let _ = keep_end(path);
    }
}

fn keep_end(path: &Path) -> std::io::Result<()> {
    let mut options = OpenOptions::new();
    let mut file =
        options.read(true).append(true).custom_flags(nix::libc::O_NOFOLLOW).open(path)?;
    let begin = begin(&file)?;
    if file.metadata()?.len() - begin > MAX_BYTES / 2 {
        let end = last_bytes(&mut file, MAX_BYTES / 8)?;
        file.set_len(begin)?;
        file.write_all(&end)?;
    }
    Ok(())
}

fn last_bytes(file: &mut File, most: u64) -> std::io::Result<Vec<u8>> {
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(begin(file)?.max(length.saturating_sub(most))))?;
    let mut bytes = Vec::new();
    file.take(most).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Where the hole before a log ends.
pub(super) fn begin(file: &File) -> std::io::Result<u64> {
    match rustix::fs::seek(file, rustix::fs::SeekFrom::Data(0)) {
        Ok(begin) => Ok(begin),
        // The log is empty.
        Err(rustix::io::Errno::NXIO) => Ok(file.metadata()?.len()),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    #[test]
    fn a_flooded_log_is_shortened_to_its_end_while_it_is_written() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("console.log");
        for limit in [None, Some(limit(5 << 30))] {
            let hole = limit.map_or(0, |limit| limit - MAX_BYTES);
            let mut writer = open(&path, limit).unwrap();
            assert!(tail(&path, 2).is_empty());
            (0..20_000).for_each(|number| writeln!(writer, "line {number}").unwrap());
            trim(&path);
            let length = path.metadata().unwrap().len() - hole;
            assert!(length > 200_000, "it was not even half full");
            (0..50_000).for_each(|number| writeln!(writer, "line {number}").unwrap());
            trim(&path);
            assert_eq!(path.metadata().unwrap().len() - hole, MAX_BYTES / 8);
            assert!(path.metadata().unwrap().blocks() * 512 <= MAX_BYTES);
            writeln!(writer, "and {}", "on".repeat(1000)).unwrap();
            let tail = tail(&path, 2);
            assert!(tail[0] == "line 49999" && tail[1].starts_with("and onon"), "{tail:?}");
            assert_eq!(tail[1].len(), 200);
        }
    }

    #[test]
    fn the_limit_allows_the_largest_file_and_a_log() {
        for largest in [0, 1, 16 << 30, (16 << 30) + 1] {
            let limit = limit(largest);
            assert!(limit >= largest + MAX_BYTES && limit < largest + MAX_BYTES + HOLE_UNIT);
        }
    }
}
