//! Signals as something to poll for. A program that handles them in the middle of anything cannot
//! say what it had done; one that reads them from a descriptor decides when.

use std::fmt;
use std::io::{Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;

use anyhow::Context;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

use crate::sys::poll::{self, PollFd, PollFlags};
use crate::sys::signals::{STOPPING, ignore};

/// Signals that arrived, readable as a descriptor.
#[derive(Debug)]
pub struct PendingSignals(Source);

#[derive(Debug)]
enum Source {
    /// The kernel. While this exists, these signals do nothing else.
    Process(SignalFd),
    /// A [`SignalRelay`], a byte for each.
    Relay(UnixStream),
}

/// Passes signals on to one of several who all want to hear of each.
#[derive(Debug)]
pub struct SignalRelay(UnixStream);

/// A signal asked to stop, and that was done. The exit code is [`SignalInterrupt::code`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SignalInterrupt(pub Signal);

impl PendingSignals {
    /// Blocks SIGINT, SIGTERM, SIGHUP and SIGQUIT in this thread and those it starts later, so call
    /// it before any is started; and ignores SIGPIPE, so that a closed output is an error to
    /// handle. Programs started from here inherit that; [`super::launcher`] gives a VMM a fresh start.
    ///
    /// # Errors
    /// Where no more descriptors can be had.
    pub fn block() -> anyhow::Result<PendingSignals> {
        let set = SigSet::from_iter(STOPPING);
        set.thread_block().context("block signals")?;
        ignore(Signal::SIGPIPE).context("ignore SIGPIPE")?;
        let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
        let signals = SignalFd::with_flags(&set, flags).context("make a signal descriptor")?;
        Ok(PendingSignals(Source::Process(signals)))
    }

    /// Signals that somebody passes on, who got them from the process's own.
    ///
    /// # Errors
    /// Where no more descriptors can be had.
    pub fn relayed() -> anyhow::Result<(SignalRelay, PendingSignals)> {
        let (ours, theirs) = UnixStream::pair().context("make a socket")?;
        for end in [&ours, &theirs] {
            end.set_nonblocking(true).context("make a socket")?;
        }
        Ok((SignalRelay(ours), PendingSignals(Source::Relay(theirs))))
    }

    /// The next signal that arrived and was not taken yet, if any.
    pub fn take(&mut self) -> Option<Signal> {
        let number = match &mut self.0 {
            Source::Process(signals) => signals.read_signal().ok()??.ssi_signo as i32,
            Source::Relay(stream) => {
                let mut byte = [0];
                stream.read_exact(&mut byte).ok()?;
                byte[0].into()
            }
        };
        Signal::try_from(number).ok()
    }

    /// Has every signal `heard`, until `over` is readable or hangs up.
    pub fn listen(&mut self, over: BorrowedFd<'_>, mut heard: impl FnMut(Signal)) {
        loop {
            let ears = PollFd::new(self.as_fd(), PollFlags::POLLIN);
            let mut fds = [ears, PollFd::new(over, PollFlags::POLLIN)];
            let polled = poll::wait(&mut fds, None);
            let is_over = polled.is_err() || fds[1].any() == Some(true);
            while let Some(signal) = self.take() {
                heard(signal);
            }
            if is_over {
                return;
            }
        }
    }

    /// Whether a signal has arrived that was not taken yet.
    pub fn pending(&self) -> bool {
        poll::is_ready(self.as_fd(), PollFlags::POLLIN)
    }

    /// Fails with [`SignalInterrupt`] when a signal has arrived.
    ///
    /// # Errors
    /// That one.
    pub fn check(&mut self) -> Result<(), SignalInterrupt> {
        self.take().map_or(Ok(()), |signal| Err(SignalInterrupt(signal)))
    }
}

impl AsFd for PendingSignals {
    /// Readable while a signal waits.
    fn as_fd(&self) -> BorrowedFd<'_> {
        match &self.0 {
            Source::Process(signals) => signals.as_fd(),
            Source::Relay(stream) => stream.as_fd(),
        }
    }
}

impl SignalRelay {
    /// Passes one on. Whoever listens no more, or has hundreds waiting, has no use for it.
    pub fn pass_on(&self, signal: Signal) {
        let _ = (&self.0).write(&[signal as u8]);
    }
}

impl SignalInterrupt {
    /// The exit code a shell would give: 128 and the signal's number.
    pub fn code(self) -> u8 {
        128 + self.0 as u8
    }
}

impl fmt::Display for SignalInterrupt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "interrupted by {}", self.0.as_str())
    }
}

impl std::error::Error for SignalInterrupt {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_relayed_is_heard_once_and_in_order() {
        let (relay, mut signals) = PendingSignals::relayed().unwrap();
        assert!(!signals.pending() && signals.take().is_none());
        relay.pass_on(Signal::SIGINT);
        relay.pass_on(Signal::SIGTERM);
        assert!(signals.pending());
        assert_eq!(signals.take(), Some(Signal::SIGINT));
        assert_eq!(signals.check(), Err(SignalInterrupt(Signal::SIGTERM)));
        assert_eq!(signals.check(), Ok(()));
        drop(relay);
        // Nobody is left who could pass one on; that is none.
        assert_eq!(signals.take(), None);
    }
}
