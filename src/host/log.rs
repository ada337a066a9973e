//! Logs that other programs write into.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use anyhow::{Context, Result};

/// Opens a log for appending, emptied: a start's log tells about that start.
pub fn open(path: &Path) -> Result<File> {
    let file = OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o600)
        .custom_flags(nix::libc::O_NOFOLLOW)
        .open(path)
        .with_context(|| format!("cannot open {}", path.display()))?;
    file.set_len(0).with_context(|| format!("cannot empty {}", path.display()))?;
    Ok(file)
}

/// The last `lines` lines of a log, reading at most its last 16 KiB; empty if there is none. Lines
/// are cut at 200 characters: whoever writes the log decides how long they are.
pub fn tail(path: &Path, lines: usize) -> String {
    const LINE: usize = 200;
    let read = || last_bytes(&mut File::open(path)?, 16 << 10);
    let text = String::from_utf8_lossy(&read().unwrap_or_default()).into_owned();
    let all: Vec<String> = text
        .lines()
        .map(|line| line.trim_end().chars().take(LINE).collect::<String>())
        .filter(|line| !line.is_empty())
        .collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}

/// Shortens a log of more than `most` bytes to its last quarter of that, while it is being written:
/// its writer appends. What it writes in the same instant may be lost or come first. Not worth
/// failing for.
pub fn trim(path: &Path, most: u64) {
    if path.symlink_metadata().is_ok_and(|meta| meta.is_file() && meta.len() > most) {
        let _ = keep_end(path, most / 4);
    }
}

fn keep_end(path: &Path, length: u64) -> std::io::Result<()> {
    let mut options = OpenOptions::new();
    let mut file =
        options.read(true).append(true).custom_flags(nix::libc::O_NOFOLLOW).open(path)?;
    let end = last_bytes(&mut file, length)?;
    file.set_len(0)?;
    file.write_all(&end)
}

fn last_bytes(file: &mut File, most: u64) -> std::io::Result<Vec<u8>> {
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(most)))?;
    let mut bytes = Vec::new();
    file.take(most).read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flooded_log_is_shortened_to_its_end_under_its_writer() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("console.log");
        let mut writer = open(&path).unwrap();
        (0..20_000).for_each(|number| writeln!(writer, "line {number}").unwrap());
        trim(&path, 1 << 20);
        assert!(path.metadata().unwrap().len() > 100_000);
        trim(&path, 4096);
        assert_eq!(path.metadata().unwrap().len(), 1024);
        writeln!(writer, "and {}", "on".repeat(1000)).unwrap();
        let tail = tail(&path, 2);
        assert!(tail.starts_with("line 19999\nand onon"), "{tail}");
        assert_eq!(tail.len(), 11 + 200);
    }
}
