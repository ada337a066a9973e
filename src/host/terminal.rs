//! The terminal a person sits at, while its keys go to somebody else.
//!
//! ```text
//!            raw()                suspend(), or the shell stops us
//! as it was ───────▶ every key is a byte ◀──────────────────────▶ as it was, and we stand still
//!     ◀───────────────────┘                resume()
//!       Drop, or a panic
//! ```

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Mutex, Once, PoisonError};

use anyhow::{Context, Result};
use rustix::process::getpgrp;
use rustix::termios::{
    OptionalActions, Termios, isatty, tcgetattr, tcgetpgrp, tcgetwinsize, tcsetattr,
};

use super::job_control::{TerminalEvent, TerminalEvents};

/// How a terminal was before it became raw. Here, because a panic must find it.
static BEFORE: Mutex<Option<(OwnedFd, Termios)>> = Mutex::new(None);

/// A terminal as the user left it.
#[derive(Debug)]
pub struct HostTerminal(OwnedFd);

/// In characters; zeros where nobody knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TerminalSize {
    pub rows: u16,
    pub columns: u16,
}

/// A raw terminal. There is one at most in a program.
#[derive(Debug)]
pub struct RawTerminal {
    terminal: HostTerminal,
    events: TerminalEvents,
}

impl HostTerminal {
    /// The terminal behind a descriptor, if there is one.
    ///
    /// # Errors
    /// Where there are no more descriptors.
    pub fn of(fd: BorrowedFd<'_>) -> Result<Option<HostTerminal>> {
        match isatty(fd) {
            true => {
                Ok(Some(HostTerminal(fd.try_clone_to_owned().context("cannot use the terminal")?)))
            }
            false => Ok(None),
        }
    }

    /// How large it is.
    pub fn size(&self) -> TerminalSize {
        let size = tcgetwinsize(&self.0).ok();
        size.map_or(TerminalSize { rows: 0, columns: 0 }, |size| TerminalSize {
            rows: size.ws_row,
            columns: size.ws_col,
        })
    }

    /// Whether it is this program that it listens to, and not one that the shell has put before it.
    pub fn is_ours(&self) -> bool {
        is_ours(&self.0)
    }

    /// Makes every key a byte to read, Ctrl-C included, and passes every byte of output on as it is.
    /// SIGWINCH, SIGTSTP and SIGCONT are [`TerminalEvent`]s from now on. In the background this stands still
    /// until the user brings the program to the foreground.
    ///
    /// # Errors
    /// The terminal is gone, or there are no more descriptors.
    pub fn raw(self) -> Result<RawTerminal> {
        restore_in_a_panic();
        let raw = RawTerminal { terminal: self, events: TerminalEvents::block()? };
        raw.enter()?;
        Ok(raw)
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

    /// What has happened and was not taken yet.
    pub fn take(&mut self) -> Option<TerminalEvent> {
        self.events.take()
    }

    /// Gives the terminal back to the shell and stands still until that continues the program.
    ///
    /// # Errors
    /// The terminal is gone.
    pub fn suspend(&mut self) -> Result<()> {
        restore();
        self.events.stand_still()?;
        self.resume()
    }

    /// Makes the terminal raw again after somebody else had it. Nothing happens in the background: there
    /// the program goes on until it reads or is brought forward.
    ///
    /// # Errors
    /// The terminal is gone.
    pub fn resume(&mut self) -> Result<()> {
        match is_ours(&self.terminal.0) {
            true => self.enter(),
            false => Ok(()),
        }
    }

    fn enter(&self) -> Result<()> {
        let fd = &self.terminal.0;
        let mut before = BEFORE.lock().unwrap_or_else(PoisonError::into_inner);
        // If it is raw already as far as we know, the shell has changed that; what it was before stays.
        let modes = match &*before {
            Some((_, modes)) => modes.clone(),
            None => tcgetattr(fd).context("the terminal's settings")?,
        };
        let mut raw = modes.clone();
        raw.make_raw();
        if before.is_none() {
            *before = Some((fd.try_clone().context("cannot use the terminal")?, modes));
        }
        // At once, keeping what was typed ahead.
        tcsetattr(fd, OptionalActions::Now, &raw).context("the terminal's settings")
    }
}

impl AsFd for RawTerminal {
    /// Readable while an event waits.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.events.as_fd()
    }
}

impl Drop for RawTerminal {
    fn drop(&mut self) {
        restore();
    }
}

/// Puts everything back as it was, once.
fn restore() {
    let mut before = BEFORE.lock().unwrap_or_else(PoisonError::into_inner);
    put_back(before.take());
}

/// A terminal that another program has now is left alone: that one has made its own settings, and
/// touching them from the background would stop this one.
fn put_back(before: Option<(OwnedFd, Termios)>) {
    if let Some((fd, modes)) = before
        && is_ours(&fd)
    {
        // A terminal that is gone needs nothing.
        let _ = tcsetattr(&fd, OptionalActions::Now, &modes);
    }
}

/// Whether it is this program that the terminal's keys are for: the shell has put no other before it.
/// A terminal that does not control us knows no such order.
fn is_ours(fd: &OwnedFd) -> bool {
    tcgetpgrp(fd).map_or(true, |foreground| foreground == getpgrp())
}

/// A panic ends the program without dropping anything, and its message shall be readable.
fn restore_in_a_panic() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let usual = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            // Not waiting: this thread may be the one that has it locked.
            if let Ok(mut before) = BEFORE.try_lock() {
                put_back(before.take());
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

    // One test, because a program has one raw terminal at most.
    #[test]
    fn a_terminal_is_put_back_by_a_drop_and_by_a_panic() {
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
