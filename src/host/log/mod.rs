//! Logs that other programs write into, and that a hostile guest may flood.
//!
//! A VMM writes its guest's console to a file by itself, with nothing of ours beside it that could
//! count. What bounds the file is the limit on the size of files that the VMM lives under
//! ([`super::launcher::LaunchBounds::file_size`]), which must be large enough for the VM's disk: so a log begins
//! [`MOST`] bytes below that limit, behind a hole that takes no space.

mod reader;

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use anyhow::{Context, Result};

pub use reader::LogReader;

/// How much a log can hold: a chatty boot many times over.
pub const MOST: u64 = 1 << 20;

/// Holes end at a multiple of this, more than any file system's block: so that a log's first byte is
/// the first byte of data in its file.
const GRAIN: u64 = 1 << 20;

/// The limit on the size of files for a program that must be able to write files of `largest` bytes.
pub fn limit(largest: u64) -> u64 {
    largest.next_multiple_of(GRAIN) + MOST
}

/// Opens a log for appending, emptied: a start's log tells about that start. Who lives under `limit`
/// can write [`MOST`] bytes to it; without one there is no bound.
pub fn open(path: &Path, limit: Option<u64>) -> Result<File> {
    let file = OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o600)
        .custom_flags(nix::libc::O_NOFOLLOW)
        .open(path)
        .with_context(|| format!("cannot open {}", path.display()))?;
    let hole = limit.map_or(0, |limit| limit - MOST);
    // In two steps, because the second alone would keep what is there.
    let emptied = file.set_len(0).and_then(|()| file.set_len(hole));
    emptied.with_context(|| format!("cannot empty {}", path.display()))?;
    Ok(file)
}

/// The last `lines` lines of a log, reading at most its last 16 KiB; empty if there is none. Lines
/// are cut at 200 characters: whoever writes the log decides how long they are.
pub fn tail(path: &Path, lines: usize) -> String {
    const LINE: usize = 200;
    let read = || last_bytes(&mut open_to_read(path)?, 16 << 10);
    let text = String::from_utf8_lossy(&read().unwrap_or_default()).into_owned();
    let all: Vec<String> = text
        .lines()
        .map(|line| line.trim_end().chars().take(LINE).collect::<String>())
        .filter(|line| !line.is_empty())
        .collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}

/// A log, and nothing else that a VMM which a guest has taken over may have put in its place: a link is
/// refused, and a pipe keeps nobody waiting.
fn open_to_read(path: &Path) -> std::io::Result<File> {
    let flags = nix::libc::O_NOFOLLOW | nix::libc::O_NONBLOCK;
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    match file.metadata()?.is_file() {
        true => Ok(file),
        false => Err(std::io::Error::other("it is no file")),
    }
}

/// Shortens a log that is more than half full to an eighth of what it can hold, while it is being
/// written: its writer appends. What it writes in the same instant may be lost or come first. Not
/// worth failing for.
pub fn trim(path: &Path) {
    if path.symlink_metadata().is_ok_and(|meta| meta.is_file() && meta.len() > MOST / 2) {
        let _ = keep_end(path);
    }
}

fn keep_end(path: &Path) -> std::io::Result<()> {
    let mut options = OpenOptions::new();
    let mut file =
        options.read(true).append(true).custom_flags(nix::libc::O_NOFOLLOW).open(path)?;
    let begin = begin(&file)?;
    if file.metadata()?.len() - begin > MOST / 2 {
        let end = last_bytes(&mut file, MOST / 8)?;
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
fn begin(file: &File) -> std::io::Result<u64> {
    match rustix::fs::seek(file, rustix::fs::SeekFrom::Data(0)) {
        Ok(begin) => Ok(begin),
        // Nothing but the hole.
        Err(rustix::io::Errno::NXIO) => Ok(file.metadata()?.len()),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    #[test]
    fn a_flooded_log_is_shortened_to_its_end_under_its_writer() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("console.log");
        for limit in [None, Some(limit(5 << 30))] {
            let hole = limit.map_or(0, |limit| limit - MOST);
            let mut writer = open(&path, limit).unwrap();
            assert_eq!(tail(&path, 2), "");
            (0..20_000).for_each(|number| writeln!(writer, "line {number}").unwrap());
            trim(&path);
            let length = path.metadata().unwrap().len() - hole;
            assert!(length > 200_000, "it was not even half full");
            (0..50_000).for_each(|number| writeln!(writer, "line {number}").unwrap());
            trim(&path);
            assert_eq!(path.metadata().unwrap().len() - hole, MOST / 8);
            assert!(path.metadata().unwrap().blocks() * 512 <= MOST);
            writeln!(writer, "and {}", "on".repeat(1000)).unwrap();
            let tail = tail(&path, 2);
            assert!(tail.starts_with("line 49999\nand onon"), "{tail}");
            assert_eq!(tail.len(), 11 + 200);
        }
    }

    #[test]
    fn logs_end_at_the_limit_of_whoever_writes_them() {
        for largest in [0, 1, 16 << 30, (16 << 30) + 1] {
            let limit = limit(largest);
            assert!(limit >= largest + MOST && limit < largest + MOST + GRAIN);
        }
    }
}
