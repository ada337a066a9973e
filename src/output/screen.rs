//! A terminal's whole screen, drawn over again and again, and given back as it was.

use std::io::{IsTerminal, stdout};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Once;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result};

use super::printer::to_stdout;
use crate::host::job_control::{TerminalEvent, TerminalEvents};
use crate::host::terminal::HostTerminal;

/// The terminal's other screen, which has no memory; no cursor; and lines that are cut where they do not fit
/// instead of going on in the next row. Sequences of xterm, which every terminal of today knows.
const ENTER: &str = "\x1b[?1049h\x1b[?25l\x1b[?7l";
const LEAVE: &str = "\x1b[?7h\x1b[?25h\x1b[?1049l";

/// The height of a terminal that does not know its own.
const USUAL_ROWS: usize = 24;

/// Whether the terminal is ours. Here, because a panic must find it.
static HAS_IT: AtomicBool = AtomicBool::new(false);

/// The screen of the terminal on standard output.
#[derive(Debug)]
pub struct TerminalScreen {
    terminal: HostTerminal,
    events: TerminalEvents,
    /// What is on it; `None` where nobody knows any more.
    shown: Option<String>,
}

impl TerminalScreen {
    /// Whether standard output is a terminal that can be drawn on.
    pub fn can_be_taken() -> bool {
        let can = std::env::var_os("TERM").is_some_and(|name| !name.is_empty() && name != "dumb");
        can && stdout().is_terminal()
    }

    /// Takes it, with the first drawing.
    ///
    /// Errors: it is none, or is gone; or there are no more descriptors.
    pub fn take() -> Result<TerminalScreen> {
        let terminal =
            HostTerminal::of(stdout().as_fd())?.context("standard output is no terminal")?;
        leave_in_a_panic();
        Ok(TerminalScreen { terminal, events: TerminalEvents::block()?, shown: None })
    }

    /// Draws lines, as many as have room. They must be harmless by now. Nothing is written where they are
    /// on it already, and the rest in one go, each line over the one before: so nothing flickers. In the
    /// background nothing is drawn; the shell says when that is over.
    ///
    /// Errors: those of the terminal.
    pub fn draw(&mut self, lines: &str) -> Result<()> {
        if !self.terminal.is_ours() {
            return Ok(());
        }
        enter()?;
        let rows = match self.terminal.size().rows {
            0 => USUAL_ROWS,
            rows => rows.into(),
        };
        let frame = frame(lines, rows);
        if self.shown.as_ref() != Some(&frame) {
            to_stdout(frame.as_bytes())?;
            self.shown = Some(frame);
        }
        Ok(())
    }

    /// Does what the window and the shell want. After that, draw.
    ///
    /// Errors: those of the terminal.
    pub fn attend(&mut self) -> Result<()> {
        while let Some(event) = self.events.take() {
            if event == TerminalEvent::Suspended {
                leave();
                self.events.stand_still()?;
            }
            self.shown = None;
        }
        Ok(())
    }
}

impl AsFd for TerminalScreen {
    /// Readable while there is something to attend to.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.events.as_fd()
    }
}

impl Drop for TerminalScreen {
    fn drop(&mut self) {
        leave();
    }
}

/// What draws lines on a screen of so many rows, whatever is on it. A row is cleared before it is written:
/// where a line was cut, the cursor stands on its last character. No line ends in the last row, which would
/// move all up.
fn frame(lines: &str, rows: usize) -> String {
    let count = lines.lines().count();
    let (some, more) = match count > rows {
        true => (rows.saturating_sub(1), Some(format!("and {} more", count + 1 - rows))),
        false => (count, None),
    };
    let mut drawn: Vec<String> = lines
        .lines()
        .take(some)
        .chain(more.as_deref())
        .map(|line| format!("\x1b[K{line}"))
        .collect();
    if count < rows {
        drawn.push("\x1b[J".into());
    }
    format!("\x1b[H{}", drawn.join("\r\n"))
}

/// Once: with each time a terminal would remember anew where the cursor was.
fn enter() -> Result<()> {
    match HAS_IT.swap(true, Ordering::SeqCst) {
        true => Ok(()),
        false => to_stdout(ENTER.as_bytes()).map(drop),
    }
}

fn leave() {
    if HAS_IT.swap(false, Ordering::SeqCst) {
        // A terminal that is gone needs nothing.
        let _ = to_stdout(LEAVE.as_bytes());
    }
}

/// A panic ends the program without dropping anything, and its message shall be seen.
fn leave_in_a_panic() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let usual = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            leave();
            usual(panic);
        }));
    });
}

#[cfg(test)]
mod tests {
    use super::frame;

    #[test]
    fn a_frame_covers_the_screen_and_never_moves_it() {
        assert_eq!(frame("HEAD\none\n", 3), "\x1b[H\x1b[KHEAD\r\n\x1b[Kone\r\n\x1b[J");
        let full = "\x1b[H\x1b[KHEAD\r\n\x1b[Kone\r\n\x1b[Ktwo";
        assert_eq!(frame("HEAD\none\ntwo", 3), full);
        let cut = "\x1b[H\x1b[KHEAD\r\n\x1b[Kone\r\n\x1b[Kand 2 more";
        assert_eq!(frame("HEAD\none\ntwo\nthree", 3), cut);
        assert_eq!(frame("one\ntwo", 1), "\x1b[H\x1b[Kand 2 more");
        assert_eq!(frame("", 3), "\x1b[H\x1b[J");
    }
}
