//! Reading a log while another process writes it.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::file::{MAX_BYTES, begin, open_to_read};
use crate::sys::file_system::if_exists;

/// How many of the last bytes that were read are kept, to find them again.
const MARK_BYTES: usize = 256;

/// Bytes read at once.
const PIECE: u64 = 64 << 10;

/// How long another process may take to shorten a log on a busy machine.
const SHORTENING: Duration = Duration::from_millis(200);

/// The pause between two attempts to find the last bytes in a log that is being shortened.
const PAUSE: Duration = Duration::from_millis(2);

/// An open log and the position in it.
#[derive(Debug)]
pub struct LogReader {
    file: File,
    position: u64,
    /// The bytes before the position.
    mark: Vec<u8>,
}

impl LogReader {
    /// Opens the log at `path`; `None` if there is none. Reading starts at its beginning, but at most [`MAX_BYTES`]
    /// bytes before its end.
    ///
    /// # Errors
    /// It cannot be read, or is not a regular file.
    pub fn open(path: &Path) -> Result<Option<LogReader>> {
        let cannot = || format!("cannot read {}", path.display());
        let Some(file) = if_exists(open_to_read(path)).with_context(cannot)? else {
            return Ok(None);
        };
        let length = file.metadata().with_context(cannot)?.len();
        let begin = begin(&file).with_context(cannot)?;
        let position = begin.max(length.saturating_sub(MAX_BYTES));
        Ok(Some(LogReader { file, position, mark: Vec::new() }))
    }

    /// Reads the next piece; it is empty at the end of the log.
    ///
    /// In a log that was shortened, reading continues after the bytes that were read last. If they are not
    /// there, as in a log that was emptied, it continues at the beginning.
    pub fn read(&mut self) -> Result<Vec<u8>> {
        self.next().context("cannot read a log")
    }

    fn next(&mut self) -> std::io::Result<Vec<u8>> {
        let (begin, length) = (begin(&self.file)?, self.file.metadata()?.len());
        if !self.is_where_it_was(begin, length)? && !self.is_found_again()? {
            self.position = begin;
            self.mark.clear();
        }
        let bytes = self.piece(self.position, PIECE)?;
        self.position += bytes.len() as u64;
        self.mark.extend(&bytes[bytes.len().saturating_sub(MARK_BYTES)..]);
        self.mark.drain(..self.mark.len().saturating_sub(MARK_BYTES));
        Ok(bytes)
    }

    /// Whether the bytes read last are still before the position.
    fn is_where_it_was(&mut self, begin: u64, length: u64) -> std::io::Result<bool> {
        let marked = self.mark.len() as u64;
        if self.position > length || self.position < begin + marked {
            return Ok(false);
        }
        let there = self.piece(self.position - marked, marked)?;
        Ok(there == self.mark)
    }

    /// Searches the bytes read last, and moves the position after them. Returns whether they were found.
    ///
    /// A log is shortened by emptying it and writing its end a moment later.
    fn is_found_again(&mut self) -> std::io::Result<bool> {
        if self.mark.is_empty() {
            return Ok(false);
        }
        let deadline = Instant::now() + SHORTENING;
        loop {
            let begin = begin(&self.file)?;
            let whole = self.piece(begin, MAX_BYTES)?;
            let found = whole.windows(self.mark.len()).rposition(|part| part == self.mark);
            if let Some(at) = found {
                self.position = begin + (at + self.mark.len()) as u64;
                return Ok(true);
            }
            if Instant::now() >= deadline {
                return Ok(false);
            }
            thread::sleep(PAUSE);
        }
    }

    fn piece(&mut self, from: u64, most: u64) -> std::io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        self.file.seek(SeekFrom::Start(from))?;
        Read::by_ref(&mut self.file).take(most).read_to_end(&mut bytes)?;
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::super::file::{limit, open, trim};
    use super::*;

    fn rest(reader: &mut LogReader) -> String {
        let mut all = Vec::new();
        loop {
            match reader.read().unwrap() {
                piece if piece.is_empty() => return String::from_utf8(all).unwrap(),
                piece => all.extend(piece),
            }
        }
    }

    #[test]
    fn reading_continues_after_the_log_was_shortened() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("console.log");
        assert!(LogReader::open(&path).unwrap().is_none());
        for limit in [None, Some(limit(5 << 30))] {
            let mut writer = open(&path, limit).unwrap();
            let mut reader = LogReader::open(&path).unwrap().unwrap();
            assert_eq!(rest(&mut reader), "");
            let mut read = String::new();
            let mut written = String::new();
            for number in 0..60_000 {
                let line = format!("line {number}\n");
                writer.write_all(line.as_bytes()).unwrap();
                written += &line;
                if number % 1000 == 0 {
                    read += &rest(&mut reader);
                    trim(&path);
                }
            }
            read += &rest(&mut reader);
            assert!(
                path.metadata().unwrap().len() - limit.map_or(0, |limit| limit - MAX_BYTES)
                    < MAX_BYTES
            );
            assert_eq!(read, written);
        }
    }

    #[test]
    fn nothing_is_read_twice_while_the_log_is_shortened() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("console.log");
        let mut writer = open(&path, Some(limit(0))).unwrap();
        let text: String = (0..100_000).map(|number| format!("{number}\n")).collect();
        writer.write_all(text.as_bytes()).unwrap();
        let mut reader = LogReader::open(&path).unwrap().unwrap();
        assert!(rest(&mut reader) == text);
        // As `trim` does, but slowly.
        let (hole, end) =
            (limit(0) - MAX_BYTES, &text.as_bytes()[text.len() - (MAX_BYTES / 8) as usize..]);
        thread::scope(|scope| {
            scope.spawn(|| {
                writer.set_len(hole).unwrap();
                for piece in end.chunks(end.len() / 4) {
                    thread::sleep(PAUSE);
                    (&writer).write_all(piece).unwrap();
                }
            });
            while path.metadata().unwrap().len() > hole + end.len() as u64 {
                thread::yield_now();
            }
            assert_eq!(rest(&mut reader), "");
        });
        assert_eq!(rest(&mut reader), "");
    }

    #[test]
    fn unread_lines_of_a_shortened_log_are_lost() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("console.log");
        let mut writer = open(&path, Some(limit(0))).unwrap();
        writer.write_all(b"first\n").unwrap();
        let mut reader = LogReader::open(&path).unwrap().unwrap();
        assert_eq!(rest(&mut reader), "first\n");
        (0..100_000).for_each(|number| writeln!(writer, "{number}").unwrap());
        trim(&path);
        let end = rest(&mut reader);
        assert!(
            end.len() as u64 == MAX_BYTES / 8 && end.ends_with("99998\n99999\n"),
            "{}",
            end.len()
        );

        let mut writer = open(&path, Some(limit(0))).unwrap();
        assert_eq!(rest(&mut reader), "");
        writer.write_all(b"second\n").unwrap();
        assert_eq!(rest(&mut reader), "second\n");
    }

    #[test]
    fn links_pipes_and_directories_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let secret = dir.path().join("secret");
        std::fs::write(&secret, "secret").unwrap();
        let link = dir.path().join("link");
        std::os::unix::fs::symlink(&secret, &link).unwrap();
        let pipe = dir.path().join("pipe");
        nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
        for path in [&link, &pipe, dir.path()] {
            assert!(LogReader::open(path).is_err(), "{}", path.display());
        }
    }

    #[test]
    fn of_an_unlimited_log_only_the_end_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("vmm.log");
        let mut writer = open(&path, None).unwrap();
        writer.write_all(&vec![b'x'; 3 * MAX_BYTES as usize]).unwrap();
        let mut reader = LogReader::open(&path).unwrap().unwrap();
        assert_eq!(rest(&mut reader).len() as u64, MAX_BYTES);
    }
}
