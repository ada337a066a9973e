//! Output of several sources at once, in whole lines that begin with the name of their source.

use std::fs::File;
use std::io::{ErrorKind, IsTerminal, Write};
use std::os::fd::AsFd;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rustix::termios::tcgetwinsize;

use super::foreign_text::ForeignText;
use crate::host::signals::{PendingSignals, SignalInterrupt};
use crate::sys::nonblocking::would_block;
use crate::sys::poll::{self, PollFlags};

/// A stream that several threads write lines to.
#[derive(Debug)]
pub struct SharedStream(Mutex<File>);

impl SharedStream {
    /// A standard stream.
    pub fn of(stream: impl AsFd) -> Result<SharedStream> {
        let stream = stream.as_fd().try_clone_to_owned().context("cannot use a standard stream")?;
        Ok(SharedStream(Mutex::new(stream.into())))
    }

    /// The current width of the terminal, 0 if it is not known; `None` if the stream is not a terminal.
    pub fn columns(&self) -> Option<usize> {
        let file = self.file();
        let size = file.is_terminal().then(|| tcgetwinsize(&*file));
        Some(size?.map_or(0, |size| size.ws_col.into()))
    }

    /// Calls `print`, which prints to the same stream by other means, between two lines.
    pub fn between<T>(&self, print: impl FnOnce() -> T) -> T {
        let _held = self.file();
        print()
    }

    /// Writes whole lines without others between them. Returns whether the stream still has a reader, and time.
    ///
    /// # Errors
    /// Those of the stream; [`SignalInterrupt`] at the second signal while the stream accepts nothing, for
    /// example because the terminal is suspended with Ctrl-S.
    pub fn write(&self, mut lines: &[u8], patience: &mut WritePatience<'_>) -> Result<bool> {
        let mut file = self.file();
        while !lines.is_empty() {
            if !patience.wait_for_room(&file)? {
                return Ok(false);
            }
            // A pipe that is writable has room for this much.
            let most = lines.len().min(nix::libc::PIPE_BUF);
            match file.write(&lines[..most]) {
                Ok(count) => lines = &lines[count..],
                // Another process may have made it non-blocking.
                Err(error) if would_block(&error) => {}
                Err(error) if error.kind() == ErrorKind::BrokenPipe => return Ok(false),
                Err(error) => return Err(error).context("cannot write a command's output"),
            }
        }
        Ok(true)
    }

    fn file(&self) -> MutexGuard<'_, File> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How often a thread that waits looks whether its time is over.
const TICK: Duration = Duration::from_millis(100);

/// How long output is written for after its command's time was over.
const OVERTIME: Duration = Duration::from_secs(1);

/// Tells several threads that a command's time is over.
#[derive(Debug, Default)]
pub struct OutputDeadline(OnceLock<Instant>);

impl OutputDeadline {
    /// Gives the threads another moment.
    pub fn close(&self) {
        let _ = self.0.set(Instant::now() + OVERTIME);
    }

    fn has_passed(&self) -> bool {
        self.0.get().is_some_and(|at| Instant::now() >= *at)
    }
}

/// How long a thread waits for a stream to accept something: until the second signal, or the deadline. The first
/// signal goes to the command, which may print something because of it.
#[derive(Debug)]
pub struct WritePatience<'a> {
    signals: &'a mut PendingSignals,
    had_signal: bool,
    deadline: &'a OutputDeadline,
}

impl WritePatience<'_> {
    pub fn of<'a>(
        signals: &'a mut PendingSignals,
        deadline: &'a OutputDeadline,
    ) -> WritePatience<'a> {
        WritePatience { signals, had_signal: false, deadline }
    }

    /// Returns whether there is room; `false` after the deadline.
    fn wait_for_room(&mut self, file: &File) -> Result<bool> {
        loop {
            let room = (true, file.as_fd(), PollFlags::POLLOUT);
            let signal = (false, self.signals.as_fd(), PollFlags::POLLIN);
            if self.deadline.has_passed() {
                return Ok(false);
            }
            let ready = poll::ready(&[room, signal], Some(Instant::now() + TICK));
            if ready.context("cannot wait for standard output")?.contains(&true) {
                return Ok(true);
            }
            while let Some(signal) = self.signals.take() {
                if self.had_signal {
                    return Err(SignalInterrupt(signal).into());
                }
                self.had_signal = true;
            }
        }
    }
}

/// The longest line that is not split, in bytes. A longer one would have to be held in memory.
const MAX_LINE: usize = 64 << 10;

/// Turns the output of one source into lines with its name.
///
/// On a terminal, escape sequences are escaped and lines are broken at its width, so that every row begins
/// with the name. A row that the terminal breaks could begin with anything, such as another source's name.
#[derive(Debug)]
pub struct PrefixedLines {
    prefix: String,
    /// The prefix of rows that continue a line.
    continuation: String,
    foreign: ForeignText,
    /// An incomplete line.
    partial: Vec<u8>,
}

impl PrefixedLines {
    /// For a source with this name, which is padded to `width`.
    pub fn of(name: &str, width: usize) -> PrefixedLines {
        PrefixedLines {
            prefix: format!("{name:width$} | "),
            continuation: format!("{name:width$} : "),
            foreign: ForeignText::default(),
            partial: Vec::new(),
        }
    }

    /// The lines that a piece completes, to be written at once. `columns` as from [`SharedStream::columns`].
    pub fn push(&mut self, piece: &[u8], columns: Option<usize>) -> Vec<u8> {
        match columns {
            Some(_) => {
                let text = self.foreign.text(piece);
                self.complete(text.as_bytes(), columns)
            }
            None => self.complete(piece, columns),
        }
    }

    /// The last line, if no line feed ends it.
    pub fn finish(&mut self, columns: Option<usize>) -> Vec<u8> {
        let text = self.foreign.rest();
        let mut lines = self.complete(text.as_bytes(), columns);
        if !self.partial.is_empty() {
            let line = std::mem::take(&mut self.partial);
            self.put(&mut lines, &line, columns);
        }
        lines
    }

    fn complete(&mut self, piece: &[u8], columns: Option<usize>) -> Vec<u8> {
        let mut lines = Vec::new();
        let mut parts = piece.split(|&byte| byte == b'\n');
        let last = parts.next_back().unwrap_or_default();
        for part in parts {
            self.partial.extend(part);
            let line = std::mem::take(&mut self.partial);
            self.put(&mut lines, &line, columns);
        }
        self.partial.extend(last);
        if self.partial.len() >= MAX_LINE {
            let rest = self.partial.split_off(whole_characters(&self.partial));
            let line = std::mem::replace(&mut self.partial, rest);
            self.put(&mut lines, &line, columns);
        }
        lines
    }

    fn put(&self, lines: &mut Vec<u8>, line: &[u8], columns: Option<usize>) {
        let rows = match (columns, str::from_utf8(line)) {
            (Some(columns @ 1..), Ok(text)) => {
                rows(text, columns.saturating_sub(self.prefix.len()).max(MIN_COLUMNS))
            }
            _ => vec![line],
        };
        for (at, row) in rows.into_iter().enumerate() {
            let prefix = if at == 0 { &self.prefix } else { &self.continuation };
            lines.extend(prefix.as_bytes());
            lines.extend(row);
            lines.push(b'\n');
        }
    }
}

/// The least width for text, on a terminal that is hardly wider than the names.
const MIN_COLUMNS: usize = 16;

/// Splits a line into parts of at most `room` columns. A character outside ASCII counts as two columns and a
/// tab as eight, the most they can take on any terminal.
fn rows(line: &str, room: usize) -> Vec<&[u8]> {
    let (mut rows, mut begin, mut used) = (Vec::new(), 0, 0);
    for (at, character) in line.char_indices() {
        let columns = match character {
            '\t' => 8,
            _ if character.is_ascii() => 1,
            _ => 2,
        };
        if used + columns > room && at > begin {
            rows.push(&line.as_bytes()[begin..at]);
            (begin, used) = (at, 0);
        }
        used += columns;
    }
    rows.push(&line.as_bytes()[begin..]);
    rows
}

/// The length of the part that ends between two characters.
fn whole_characters(bytes: &[u8]) -> usize {
    match str::from_utf8(bytes) {
        Err(error) if error.error_len().is_none() => error.valid_up_to(),
        _ => bytes.len(),
    }
}

#[cfg(test)]
mod tests {
    use nix::sys::signal::Signal;

    use super::*;

    fn shown(columns: Option<usize>, pieces: &[&[u8]]) -> String {
        let mut lines = PrefixedLines::of("ci", 4);
        let mut all: Vec<u8> = pieces.iter().flat_map(|piece| lines.push(piece, columns)).collect();
        all.extend(lines.finish(columns));
        String::from_utf8(all).unwrap()
    }

    #[test]
    fn every_line_has_the_name_of_its_source() {
        let whole = "one\n\ntwü\nthree".as_bytes();
        let expected = "ci   | one\nci   | \nci   | twü\nci   | three\n";
        for columns in [None, Some(0), Some(80)] {
            for at in 0..=whole.len() {
                let (one, two) = whole.split_at(at);
                assert_eq!(shown(columns, &[one, two]), expected, "cut at {at}");
            }
            assert_eq!(shown(columns, &[]), "");
            assert_eq!(shown(columns, &[b"one\n"]), "ci   | one\n");
        }
    }

    #[test]
    fn on_a_terminal_no_row_can_pretend_to_be_another_vms() {
        let hostile: &[u8] = b"\x1b[2K\rbox  | forged\r\n";
        assert_eq!(shown(Some(0), &[hostile]), "ci   | \\u{1b}[2K\\u{d}box  | forged\n");
        assert_eq!(shown(None, &[hostile]), "ci   | \u{1b}[2K\rbox  | forged\r\n");
        // Placed so that it would begin a row.
        let hostile = format!("{:33}box  | forged", "");
        let first = format!("ci   | {:33}\n", "");
        assert_eq!(
            shown(Some(40), &[hostile.as_bytes()]),
            format!("{first}ci   : box  | forged\n")
        );
        for filler in ["漢", "\t", "e\u{301}", "é"] {
            let printed = shown(Some(40), &[filler.repeat(99).as_bytes()]);
            assert!(printed.lines().all(|row| row.starts_with("ci   ")));
            assert!(printed.lines().all(|row| row.matches(filler).count() <= 16), "{printed}");
        }
        // On a very narrow terminal, rows become longer than it is wide.
        assert_eq!(shown(Some(4), &[&[b'x'; 20]]).lines().count(), 2);
    }

    #[test]
    fn a_stalled_reader_is_waited_for_until_a_second_signal() {
        let (reader, writer) = std::io::pipe().unwrap();
        let shared = SharedStream::of(&writer).unwrap();
        let (relay, mut signals) = PendingSignals::relayed().unwrap();
        relay.pass_on(Signal::SIGINT);
        relay.pass_on(Signal::SIGTERM);
        let deadline = OutputDeadline::default();
        let mut patience = WritePatience::of(&mut signals, &deadline);
        // What fits is written despite pending signals.
        assert!(shared.write(b"ci | one\n", &mut patience).unwrap());
        let error = shared.write(&[b'x'; 1 << 20], &mut patience).unwrap_err();
        assert_eq!(error.downcast_ref(), Some(&SignalInterrupt(Signal::SIGTERM.into())));
        drop(reader);
        assert!(!shared.write(b"ci | two\n", &mut patience).unwrap());
    }

    #[test]
    fn a_long_line_is_split_between_characters() {
        let long = vec![b'x'; 3 * MAX_LINE / 2];
        let printed = shown(None, &[&long, &long]);
        assert_eq!(printed.lines().count(), 2);
        assert_eq!(printed.matches('x').count(), 3 * MAX_LINE);
        let mut long = vec![b'x'; MAX_LINE - 1];
        long.extend("é".as_bytes());
        let printed = shown(None, &[&long[..MAX_LINE], &long[MAX_LINE..]]);
        assert_eq!(printed.lines().last(), Some("ci   | é"));
    }
}
