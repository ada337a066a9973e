//! What a window and a shell do to the program that has the terminal.

use std::os::fd::{AsFd, BorrowedFd};

use anyhow::{Context, Result};
use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::signalfd::{SfdFlags, SignalFd};

/// What happens to a terminal, or to the program in its foreground.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TerminalEvent {
    /// It may have another size.
    Resized,
    /// The user wants this program to stand still: [`TerminalEvents::stand_still`].
    Suspended,
    /// It goes on after it was made to.
    Resumed,
}

/// Hears of these events, which do nothing else meanwhile.
#[derive(Debug)]
pub struct TerminalEvents {
    signals: SignalFd,
    /// What the thread blocked before.
    mask: SigSet,
}

impl TerminalEvents {
    /// Blocks SIGWINCH, SIGTSTP and SIGCONT in this thread as long as this exists.
    ///
    /// # Errors
    /// There are no more descriptors.
    pub fn block() -> Result<TerminalEvents> {
        let set = SigSet::from_iter([Signal::SIGWINCH, Signal::SIGTSTP, Signal::SIGCONT]);
        let mask = SigSet::thread_get_mask().context("read the signal mask")?;
        set.thread_block().context("block signals")?;
        let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
        let signals = SignalFd::with_flags(&set, flags).context("make a signal descriptor")?;
        Ok(TerminalEvents { signals, mask })
    }

    /// What has happened and was not taken yet.
    pub fn take(&mut self) -> Option<TerminalEvent> {
        let info = self.signals.read_signal().ok()??;
        match Signal::try_from(info.ssi_signo as i32) {
            Ok(Signal::SIGTSTP) => Some(TerminalEvent::Suspended),
            Ok(Signal::SIGCONT) => Some(TerminalEvent::Resumed),
            _ => Some(TerminalEvent::Resized),
        }
    }

    /// Stands still until the shell continues the program. Give the terminal back before.
    ///
    /// # Errors
    /// None that a running program could have caused.
    pub fn stand_still(&self) -> Result<()> {
        let stop = SigSet::from(Signal::SIGTSTP);
        // To the whole program, and while it is blocked, so that it acts at the very next step. Where
        // no shell is there to continue it, the kernel lets it go on at once.
        kill(nix::unistd::getpid(), Signal::SIGTSTP).context("suspend")?;
        stop.thread_unblock().context("suspend")?;
        stop.thread_block().context("block signals")
    }
}

impl AsFd for TerminalEvents {
    /// Readable while an event waits.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.signals.as_fd()
    }
}

impl Drop for TerminalEvents {
    fn drop(&mut self) {
        let _ = self.mask.thread_set_mask();
    }
}
