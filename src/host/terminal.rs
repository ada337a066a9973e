//! The user's terminal, and its raw mode.
//!
//! ```text
//!            raw()         suspend()
//! original ───────▶ raw ◀─────────────▶ original, mayfly stopped
//!     ◀──────────────┘      resume()
//!      Drop, or a panic
//! ```

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Mutex, Once, PoisonError};

use anyhow::{Context, Result};
use rustix::process::getpgrp;
use rustix::termios::{
    LocalModes, OptionalActions, Termios, isatty, tcgetattr, tcgetpgrp, tcgetwinsize, tcsetattr,
};

use super::job_control::{TerminalEvent, TerminalEvents};
use crate::sys::poll::{self, PollFlags};

/// The terminal and its original settings, while they are changed. A static, because a panic restores them.
static BEFORE: Mutex<Option<(OwnedFd, Termios)>> = Mutex::new(None);

/// A terminal.
#[derive(Debug)]
pub struct HostTerminal(OwnedFd);

/// In characters; zeros if the size is unknown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TerminalSize {
    pub rows: u16,
    pub columns: u16,
}

impl TerminalSize {
    /// 80 by 24 where it is unknown, as on a serial line.
    pub fn or_usual(self) -> TerminalSize {
        let known = |size, usual| if size == 0 { usual } else { size };
        TerminalSize { rows: known(self.rows, 24), columns: known(self.columns, 80) }
    }
}

/// A raw terminal. A program has at most one.
#[derive(Debug)]
pub struct RawTerminal {
    terminal: HostTerminal,
    events: TerminalEvents,
}

impl HostTerminal {
    /// The terminal of a descriptor; `None` if it is not a terminal.
    pub fn of(fd: BorrowedFd<'_>) -> Result<Option<HostTerminal>> {
        if !isatty(fd) {
            return Ok(None);
        }
        Ok(Some(HostTerminal(fd.try_clone_to_owned().context("cannot use the terminal")?)))
    }

    pub fn size(&self) -> TerminalSize {
        let size = tcgetwinsize(&self.0).ok();
        size.map_or(TerminalSize { rows: 0, columns: 0 }, |size| TerminalSize {
            rows: size.ws_row,
            columns: size.ws_col,
        })
    }

    /// Whether this program is in the terminal's foreground.
    pub fn is_ours(&self) -> bool {
        is_ours(&self.0)
    }

    /// Makes the terminal raw: every key is a byte to read, Ctrl-C included, and output is not processed. From
    /// then on SIGWINCH, SIGTSTP and SIGCONT are [`TerminalEvent`]s. In the background, this waits until the
    /// user brings the program to the foreground.
    pub fn raw(self) -> Result<RawTerminal> {
        let raw = RawTerminal { terminal: self, events: TerminalEvents::block()? };
        raw.enter()?;
        Ok(raw)
    }

    /// Passes each key on at once and does not show it. Ctrl-C and Ctrl-Z work as usual. [`restore`] ends this.
    pub fn pass_keys(&self) -> Result<()> {
        self.change(|modes| modes.local_modes.remove(LocalModes::ICANON | LocalModes::ECHO))
    }

    /// The keys that were typed, without waiting for any; `None` if the terminal is gone.
    pub fn typed(&self) -> Option<Vec<u8>> {
        if !poll::is_ready(self.0.as_fd(), PollFlags::POLLIN) {
            return Some(Vec::new());
        }
        let mut keys = vec![0; 4096];
        let count = rustix::io::read(&self.0, &mut keys).ok().filter(|count| *count > 0)?;
        keys.truncate(count);
        Some(keys)
    }

    /// Changes the original settings.
    fn change(&self, change: impl Fn(&mut Termios)) -> Result<()> {
        restore_in_a_panic();
        let fd = &self.0;
        let mut before = BEFORE.lock().unwrap_or_else(PoisonError::into_inner);
        // If they are already changed, the shell has changed them since; the original settings stay.
        let original = match &*before {
            Some((_, modes)) => modes.clone(),
            None => tcgetattr(fd).context("the terminal's settings")?,
        };
        let mut modes = original.clone();
        change(&mut modes);
        if before.is_none() {
            *before = Some((fd.try_clone().context("cannot use the terminal")?, original));
        }
        // Without discarding keys that were typed ahead.
        tcsetattr(fd, OptionalActions::Now, &modes).context("the terminal's settings")
    }
}

impl AsFd for HostTerminal {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl RawTerminal {
    pub fn size(&self) -> TerminalSize {
        self.terminal.size()
    }

    /// As [`HostTerminal::is_ours`].
    pub fn is_ours(&self) -> bool {
        self.terminal.is_ours()
    }

    /// Takes the next event, if any.
    pub fn take(&mut self) -> Option<TerminalEvent> {
        self.events.take()
    }

    /// Restores the terminal and stops the program until the shell continues it.
    pub fn suspend(&mut self) -> Result<()> {
        restore();
        self.events.suspend()?;
        self.resume()
    }

    /// Makes the terminal raw again after another program used it. Does nothing in the background.
    pub fn resume(&mut self) -> Result<()> {
        if is_ours(&self.terminal.0) { self.enter() } else { Ok(()) }
    }

    fn enter(&self) -> Result<()> {
        self.terminal.change(Termios::make_raw)
    }
}

impl AsFd for RawTerminal {
    /// Readable while there is an event.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.events.as_fd()
    }
}

impl Drop for RawTerminal {
    fn drop(&mut self) {
        restore();
    }
}

/// Restores the terminal's settings if they are changed.
pub fn restore() {
    let mut before = BEFORE.lock().unwrap_or_else(PoisonError::into_inner);
    restore_settings(before.take());
}

/// Does nothing in the background: the program in the foreground has its own settings, and changing them would
/// stop this program.
fn restore_settings(before: Option<(OwnedFd, Termios)>) {
    if let Some((fd, modes)) = before
        && is_ours(&fd)
    {
        // The terminal may be gone.
        let _ = tcsetattr(&fd, OptionalActions::Now, &modes);
    }
}

/// Whether this program is in the terminal's foreground, or the terminal is not its controlling one.
fn is_ours(fd: &OwnedFd) -> bool {
    tcgetpgrp(fd).map_or(true, |foreground| foreground == getpgrp())
}

/// Restores the terminal before a panic's message: a panic aborts the program without dropping anything.
fn restore_in_a_panic() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let usual = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            // Without waiting: this thread may hold the lock.
            if let Ok(mut before) = BEFORE.try_lock() {
                restore_settings(before.take());
            }
            usual(panic);
        }));
    });
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer, openpt, unlockpt};

    use super::*;

    // One test, because a program has at most one raw terminal.
    #[test]
    fn a_drop_and_a_panic_restore_the_terminal() {
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY;
        let master = openpt(flags).unwrap();
        unlockpt(&master).unwrap();
        let slave = ioctl_tiocgptpeer(&master, flags).unwrap();
        let modes = || {
            let modes = tcgetattr(&slave).unwrap();
            (modes.input_modes, modes.output_modes, modes.control_modes, modes.local_modes)
        };
        let before = modes();
        let raw = || HostTerminal::of(slave.as_fd()).unwrap().expect("a terminal").raw().unwrap();

        let dropped = raw();
        assert_ne!(modes(), before);
        drop(dropped);
        assert_eq!(modes(), before);

        let forgotten = raw();
        assert_ne!(modes(), before);
        let panicked = catch_unwind(AssertUnwindSafe(move || {
            std::mem::forget(forgotten);
            panic!("as it must be");
        }));
        assert!(panicked.is_err());
        assert_eq!(modes(), before);

        assert!(
            HostTerminal::of(std::fs::File::open("/dev/null").unwrap().as_fd()).unwrap().is_none()
        );
    }
}
