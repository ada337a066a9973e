//! Signals as something to poll for. A program that handles them in the middle of anything cannot
//! say what it had done; one that reads them from a descriptor decides when.

use std::fmt;
use std::os::fd::{AsFd, BorrowedFd};

use anyhow::Context;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};
use nix::sys::signalfd::{SfdFlags, SignalFd};

/// The signals by which a user or a service manager asks to stop.
pub const STOPPING: [Signal; 4] =
    [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP, Signal::SIGQUIT];

/// Signals that arrived, readable as a descriptor. While one exists, these signals do nothing else.
#[derive(Debug)]
pub struct Signals(SignalFd);

/// A signal asked to stop, and that was done. The exit code is [`Interrupted::code`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Interrupted(pub Signal);

impl Signals {
    /// Blocks SIGINT, SIGTERM, SIGHUP and SIGQUIT in this thread and those it starts later, so call
    /// it before any is started; and ignores SIGPIPE, so that a closed output is an error to
    /// handle. Programs started from here inherit that; [`super::gate`] gives a VMM a fresh start.
    ///
    /// # Errors
    /// Where no more descriptors can be had.
    pub fn block() -> anyhow::Result<Signals> {
        let mut set = SigSet::empty();
        for signal in STOPPING {
            set.add(signal);
        }
        set.thread_block().context("block signals")?;
        let ignore = SigAction::new(SigHandler::SigIgn, SaFlags::empty(), SigSet::empty());
        // SAFETY: ignoring a signal runs no handler.
        unsafe { sigaction(Signal::SIGPIPE, &ignore) }.context("ignore SIGPIPE")?;
        let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
        Ok(Signals(SignalFd::with_flags(&set, flags).context("make a signal descriptor")?))
    }

    /// The next signal that arrived and was not taken yet, if any.
    pub fn take(&mut self) -> Option<Signal> {
        let info = self.0.read_signal().ok()??;
        Signal::try_from(info.ssi_signo as i32).ok()
    }

    /// Whether a signal has arrived that was not taken yet.
    pub fn pending(&self) -> bool {
        let mut fds = [PollFd::new(self.0.as_fd(), PollFlags::POLLIN)];
        poll(&mut fds, PollTimeout::ZERO).is_ok_and(|ready| ready > 0)
    }

    /// Fails with [`Interrupted`] when a signal has arrived.
    ///
    /// # Errors
    /// That one.
    pub fn check(&mut self) -> Result<(), Interrupted> {
        self.take().map_or(Ok(()), |signal| Err(Interrupted(signal)))
    }
}

impl AsFd for Signals {
    /// Readable while a signal waits.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Interrupted {
    /// The exit code a shell would give: 128 and the signal's number.
    pub fn code(self) -> u8 {
        128 + self.0 as u8
    }
}

impl fmt::Display for Interrupted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "interrupted by {}", self.0.as_str())
    }
}

impl std::error::Error for Interrupted {}
