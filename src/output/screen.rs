//! Drawing on the whole screen of a terminal, and restoring it afterwards.

use std::io::{IsTerminal, stdin, stdout};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Once;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result};

use super::standard::to_stdout;
use crate::host::job_control::{TerminalEvent, TerminalEvents};
use crate::host::terminal::{self, HostTerminal};

/// Switches to the alternate screen, hides the cursor and turns line wrapping off. These are sequences of
/// xterm, which all common terminals support.
const ENTER: &str = "\x1b[?1049h\x1b[?25l\x1b[?7l";
const LEAVE: &str = "\x1b[?7h\x1b[?25h\x1b[?1049l";

/// Whether the alternate screen is shown. Static, because the panic hook needs it.
static IS_SHOWN: AtomicBool = AtomicBool::new(false);

/// The screen of the terminal on standard output, and its keyboard.
#[derive(Debug)]
pub struct TerminalScreen {
    terminal: HostTerminal,
    /// `None` if standard input is no terminal, or closed.
    keyboard: Option<HostTerminal>,
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
        Ok(TerminalScreen {
            terminal,
            keyboard: HostTerminal::of(stdin().as_fd())?,
            events: TerminalEvents::block()?,
            shown: None,
        })
    }

    /// Draws as many rows as there is room for, and below them how to end this. Rows must be escaped and fit
    /// the width. To avoid flicker, the screen is written at once, over what is there, and only if something
    /// has changed. Nothing is drawn while mayfly is a background job.
    ///
    /// # Errors
    /// Those of writing to the terminal.
    pub fn draw(&mut self, rows: &[String]) -> Result<()> {
        if !self.terminal.is_ours() {
            return Ok(());
        }
        if let Some(keyboard) = &self.keyboard {
            keyboard.pass_keys()?;
        }
        enter()?;
        let keys = self.keyboard.as_ref().map_or("Ctrl-C quits", |_| "q quits");
        let frame = frame(rows, keys, self.terminal.size().or_usual().rows.into());
        if self.shown.as_ref() != Some(&frame) {
            to_stdout(frame.as_bytes())?;
            self.shown = Some(frame);
        }
        Ok(())
    }

    /// What to wait for: [`TerminalScreen::handle_events`] then has something to do. The keyboard of a
    /// background job belongs to another program.
    pub fn inputs(&self) -> Vec<BorrowedFd<'_>> {
        let keyboard = self.keyboard.as_ref().filter(|_| self.terminal.is_ours());
        keyboard.map(AsFd::as_fd).into_iter().chain([self.events.as_fd()]).collect()
    }

    /// Handles keys, a changed window size and Ctrl-Z. Returns whether the user has quit; if not, draw.
    ///
    /// # Errors
    /// Those of stopping this process.
    pub fn handle_events(&mut self) -> Result<bool> {
        while let Some(event) = self.events.take() {
            if event == TerminalEvent::Suspended {
                leave();
                self.events.suspend()?;
            }
            self.shown = None;
        }
        let Some(keyboard) = self.keyboard.take_if(|_| self.terminal.is_ours()) else {
            return Ok(false);
        };
        let typed = keyboard.typed();
        if typed.is_some() {
            self.keyboard = Some(keyboard);
        }
        Ok(typed.is_some_and(|keys| keys.contains(&b'q') || keys.contains(&b'Q')))
    }
}

impl Drop for TerminalScreen {
    fn drop(&mut self) {
        leave();
    }
}

/// What to write to draw rows on a screen of that height, whose last line says how to end this. There is no line
/// break in the last line, which would scroll the screen. A line is cleared before it is written, because after one that fills it the cursor
/// is on its last character.
fn frame(rows: &[String], keys: &str, height: usize) -> String {
    let mut room = height.saturating_sub(1);
    let fitting = rows.iter().take_while(|row| {
        let lines = row.lines().count();
        let fits = lines <= room;
        room = room.saturating_sub(lines);
        fits
    });
    let fitting = fitting.count();
    let lines = rows[..fitting].iter().flat_map(|row| row.lines());
    let drawn: String = lines.map(|line| format!("\x1b[K{line}\r\n")).collect();
    let last = match rows.len() - fitting {
        0 => keys.to_owned(),
        more => format!("and {more} more; {keys}"),
    };
    format!("\x1b[H{drawn}\x1b[J\x1b[{height}H{last}")
}

/// Only once, because the terminal saves the position of the cursor each time.
fn enter() -> Result<()> {
    if !IS_SHOWN.swap(true, Ordering::SeqCst) {
        to_stdout(ENTER.as_bytes())?;
    }
    Ok(())
}

fn leave() {
    terminal::restore();
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
        let drawn = |rows: &[&str], height| {
            let rows: Vec<String> = rows.iter().map(ToString::to_string).collect();
            frame(&rows, "q quits", height)
                .replace("\x1b[K", "")
                .replace("\r\n", "|")
                .replace('\x1b', "")
        };
        assert_eq!(drawn(&["HEAD", "one"], 4), "[HHEAD|one|[J[4Hq quits");
        assert_eq!(drawn(&["HEAD", "one"], 3), "[HHEAD|one|[J[3Hq quits");
        assert_eq!(drawn(&["HEAD", "one", "two"], 3), "[HHEAD|one|[J[3Hand 1 more; q quits");
        // A row of two lines is shown whole or not at all.
        assert_eq!(drawn(&["HEAD", "1\n2", "3"], 4), "[HHEAD|1|2|[J[4Hand 1 more; q quits");
        assert_eq!(drawn(&["HEAD", "1\n2", "3"], 3), "[HHEAD|[J[3Hand 2 more; q quits");
        assert_eq!(drawn(&["one", "two"], 1), "[H[J[1Hand 2 more; q quits");
        assert_eq!(drawn(&[], 3), "[H[J[3Hq quits");
    }
}
