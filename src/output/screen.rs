//! Drawing on the whole screen of a terminal, and restoring it afterwards.

use std::io::{IsTerminal, stdout};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Once;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result};

use super::standard::to_stdout;
use crate::host::job_control::{TerminalEvent, TerminalEvents};
use crate::host::terminal::HostTerminal;

/// Switches to the alternate screen, hides the cursor and turns line wrapping off. These are sequences of
/// xterm, which all common terminals support.
const ENTER: &str = "\x1b[?1049h\x1b[?25l\x1b[?7l";
const LEAVE: &str = "\x1b[?7h\x1b[?25h\x1b[?1049l";

/// The height of a terminal that reports none.
const DEFAULT_ROWS: usize = 24;

/// Whether the alternate screen is shown. Static, because the panic hook needs it.
static IS_SHOWN: AtomicBool = AtomicBool::new(false);

/// The screen of the terminal on standard output.
#[derive(Debug)]
pub struct TerminalScreen {
    terminal: HostTerminal,
    events: TerminalEvents,
    /// What is on the screen; `None` if that is not known.
    shown: Option<String>,
}

impl TerminalScreen {
    /// Whether standard output is a terminal that can be drawn on.
    pub fn is_available() -> bool {
        let can = std::env::var_os("TERM").is_some_and(|name| !name.is_empty() && name != "dumb");
        can && stdout().is_terminal()
    }

    /// Prepares for drawing; the first [`TerminalScreen::draw`] switches to the alternate screen.
    ///
    /// # Errors
    /// Standard output is not a terminal, or there are no more descriptors.
    pub fn open() -> Result<TerminalScreen> {
        let terminal =
            HostTerminal::of(stdout().as_fd())?.context("standard output is not a terminal")?;
        leave_on_panic();
        Ok(TerminalScreen { terminal, events: TerminalEvents::block()?, shown: None })
    }

    /// Draws as many lines as there is room for; they must be escaped already. To avoid flicker, the screen
    /// is written at once, over what is there, and only if something has changed. Nothing is drawn while
    /// mayfly is a background job.
    ///
    /// # Errors
    /// Those of writing to the terminal.
    pub fn draw(&mut self, lines: &str) -> Result<()> {
        if !self.terminal.is_ours() {
            return Ok(());
        }
        enter()?;
        let rows = match self.terminal.size().rows {
            0 => DEFAULT_ROWS,
            rows => rows.into(),
        };
        let frame = frame(lines, rows);
        if self.shown.as_ref() != Some(&frame) {
            to_stdout(frame.as_bytes())?;
            self.shown = Some(frame);
        }
        Ok(())
    }

    /// Handles a changed window size and Ctrl-Z. Draw afterwards.
    ///
    /// # Errors
    /// Those of stopping this process.
    pub fn handle_events(&mut self) -> Result<()> {
        while let Some(event) = self.events.take() {
            if event == TerminalEvent::Suspended {
                leave();
                self.events.suspend()?;
            }
            self.shown = None;
        }
        Ok(())
    }
}

impl AsFd for TerminalScreen {
    /// Readable while [`TerminalScreen::handle_events`] has something to do.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.events.as_fd()
    }
}

impl Drop for TerminalScreen {
    fn drop(&mut self) {
        leave();
    }
}

/// What to write to draw lines on a screen with that many rows. A row is cleared before it is written, because
/// after a line that was cut the cursor is on its last character. There is no line break in the last row,
/// which would scroll the screen.
fn frame(lines: &str, rows: usize) -> String {
    let count = lines.lines().count();
    let (some, more) = if count > rows {
        (rows.saturating_sub(1), Some(format!("and {} more", count + 1 - rows)))
    } else {
        (count, None)
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

/// Only once, because the terminal saves the position of the cursor each time.
fn enter() -> Result<()> {
    if !IS_SHOWN.swap(true, Ordering::SeqCst) {
        to_stdout(ENTER.as_bytes())?;
    }
    Ok(())
}

fn leave() {
    if IS_SHOWN.swap(false, Ordering::SeqCst) {
        // Fails only if the terminal is gone.
        let _ = to_stdout(LEAVE.as_bytes());
    }
}

/// A panic ends the program without dropping the screen, and its message must stay visible.
fn leave_on_panic() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let previous = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            leave();
            previous(panic);
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
