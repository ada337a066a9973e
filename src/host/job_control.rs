//! Signals for the program in the foreground of a terminal: resizing, suspending, continuing.

use std::os::fd::{AsFd, BorrowedFd};

use anyhow::{Context, Result};
use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::signalfd::{SfdFlags, SignalFd};

use crate::sys::signals::SignalNumber;

/// A change of the terminal, or of the program in its foreground.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TerminalEvent {
    /// The size may have changed (SIGWINCH).
    Resized,
    /// The user asked to suspend this program (SIGTSTP): call [`TerminalEvents::suspend`].
    Suspended,
    /// The program was continued (SIGCONT).
    Resumed,
}

/// Receives these events; while it exists, the signals have no other effect.
#[derive(Debug)]
pub struct TerminalEvents {
    signals: SignalFd,
    /// The signals that were blocked before.
    mask: SigSet,
}

impl TerminalEvents {
    /// Blocks SIGWINCH, SIGTSTP and SIGCONT in this thread as long as this exists. If SIGTSTP is ignored, it stays so.
    pub fn block() -> Result<TerminalEvents> {
        let mut set = SigSet::from_iter([Signal::SIGWINCH, Signal::SIGCONT]);
        if !SignalNumber::from(Signal::SIGTSTP).is_ignored() {
            set.add(Signal::SIGTSTP);
        }
        let mask = SigSet::thread_get_mask().context("read the signal mask")?;
        set.thread_block().context("block signals")?;
        let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
        let signals = SignalFd::with_flags(&set, flags).context("make a signal descriptor")?;
        Ok(TerminalEvents { signals, mask })
    }

    /// Takes the next event, if any.
    pub fn take(&mut self) -> Option<TerminalEvent> {
        let info = self.signals.read_signal().ok()??;
        match Signal::try_from(info.ssi_signo as i32) {
            Ok(Signal::SIGTSTP) => Some(TerminalEvent::Suspended),
            Ok(Signal::SIGCONT) => Some(TerminalEvent::Resumed),
            _ => Some(TerminalEvent::Resized),
        }
    }

    /// Stops this program until the shell continues it. Restore the terminal first.
    pub fn suspend(&self) -> Result<()> {
        let stop = SigSet::from(Signal::SIGTSTP);
        // Sent to the whole program while it is blocked, so that it takes effect when it is unblocked. Without
        // a shell that could continue the program, the kernel ignores it.
        kill(nix::unistd::getpid(), Signal::SIGTSTP).context("suspend")?;
        stop.thread_unblock().context("suspend")?;
        stop.thread_block().context("block signals")
    }
}

impl AsFd for TerminalEvents {
    /// Readable while there is an event.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.signals.as_fd()
    }
}

impl Drop for TerminalEvents {
    fn drop(&mut self) {
        let _ = self.mask.thread_set_mask();
    }
}
