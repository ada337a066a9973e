//! Signals to be read from a descriptor. Unlike a handler, which runs in the middle of anything, the program
//! decides when to handle them.

use std::fmt;
use std::io::{Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;

use anyhow::Context;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

use crate::sys::poll::{self, PollFlags};
use crate::sys::signals::{STOPPING, ignore};

/// Signals that arrived, readable as a descriptor.
#[derive(Debug)]
pub struct PendingSignals(SignalSource);

#[derive(Debug)]
enum SignalSource {
    /// The kernel's signalfd. While it exists, these signals have no other effect.
    Process(SignalFd),
    /// The receiving end of a [`SignalRelay`]: one byte for each signal.
    Relay(UnixStream),
}

/// Passes signals on to another thread's [`PendingSignals`].
#[derive(Debug)]
pub struct SignalRelay(UnixStream);

/// A signal interrupted the work. The exit code is [`SignalInterrupt::code`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SignalInterrupt(pub Signal);

impl PendingSignals {
    /// Blocks SIGINT, SIGTERM, SIGHUP and SIGQUIT in this thread and in threads that it starts later; call this
    /// before any is started. Ignores SIGPIPE, so that writing to a closed output is an error. Programs inherit
    /// both; [`super::launcher`] resets them for a VMM.
    pub fn block() -> anyhow::Result<PendingSignals> {
        let set = SigSet::from_iter(STOPPING);
        set.thread_block().context("block signals")?;
        ignore(Signal::SIGPIPE).context("ignore SIGPIPE")?;
        let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
        let signals = SignalFd::with_flags(&set, flags).context("make a signal descriptor")?;
        Ok(PendingSignals(SignalSource::Process(signals)))
    }

    /// Signals that a relay passes on.
    pub fn relayed() -> anyhow::Result<(SignalRelay, PendingSignals)> {
        let (ours, theirs) = UnixStream::pair().context("make a socket")?;
        for end in [&ours, &theirs] {
            end.set_nonblocking(true).context("make a socket")?;
        }
        Ok((SignalRelay(ours), PendingSignals(SignalSource::Relay(theirs))))
    }

    /// Takes the next signal, if any.
    pub fn take(&mut self) -> Option<Signal> {
        let number = match &mut self.0 {
            SignalSource::Process(signals) => signals.read_signal().ok()??.ssi_signo as i32,
            SignalSource::Relay(stream) => {
                let mut byte = [0];
                stream.read_exact(&mut byte).ok()?;
                byte[0].into()
            }
        };
        Signal::try_from(number).ok()
    }

    /// Calls `receive` for every signal until `end` is readable or hangs up.
    pub fn listen(&mut self, end: BorrowedFd<'_>, mut receive: impl FnMut(Signal)) {
        loop {
            let sources =
                [(false, self.as_fd(), PollFlags::POLLIN), (true, end, PollFlags::POLLIN)];
            let is_over = poll::ready(&sources, None).map_or(true, |ready| ready.contains(&true));
            while let Some(signal) = self.take() {
                receive(signal);
            }
            if is_over {
                return;
            }
        }
    }

    /// Whether there is a signal to take.
    pub fn pending(&self) -> bool {
        poll::is_ready(self.as_fd(), PollFlags::POLLIN)
    }

    /// Takes the next signal as an error.
    pub fn check(&mut self) -> Result<(), SignalInterrupt> {
        self.take().map_or(Ok(()), |signal| Err(SignalInterrupt(signal)))
    }
}

impl AsFd for PendingSignals {
    /// Readable while there is a signal to take.
    fn as_fd(&self) -> BorrowedFd<'_> {
        match &self.0 {
            SignalSource::Process(signals) => signals.as_fd(),
            SignalSource::Relay(stream) => stream.as_fd(),
        }
    }
}

impl SignalRelay {
    /// Passes a signal on. It is dropped if the receiver is gone or has hundreds that it has not taken.
    pub fn pass_on(&self, signal: Signal) {
        let _ = (&self.0).write(&[signal as u8]);
    }
}

impl SignalInterrupt {
    /// The exit code of a shell: 128 plus the signal's number.
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
    fn relayed_signals_are_taken_once_and_in_order() {
        let (relay, mut signals) = PendingSignals::relayed().unwrap();
        assert!(!signals.pending() && signals.take().is_none());
        relay.pass_on(Signal::SIGINT);
        relay.pass_on(Signal::SIGTERM);
        assert!(signals.pending());
        assert_eq!(signals.take(), Some(Signal::SIGINT));
        assert_eq!(signals.check(), Err(SignalInterrupt(Signal::SIGTERM)));
        assert_eq!(signals.check(), Ok(()));
        drop(relay);
        // A relay that is gone is not a signal.
        assert_eq!(signals.take(), None);
    }
}
