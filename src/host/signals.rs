//! Signals to be read from a descriptor. Unlike a handler, which runs in the middle of anything, the program
//! decides when to handle them.

use std::fmt;
use std::io::{Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context;
use nix::sys::signal::Signal;
use nix::sys::signalfd::{SfdFlags, SignalFd};

use crate::sys::poll::{self, PollFlags};
pub use crate::sys::signals::SignalNumber;
use crate::sys::signals::{STOPPING, ignore, set_of};

/// The kernel's signalfd, from [`PendingSignals::block`] on.
static PROCESS: OnceLock<SignalFd> = OnceLock::new();

/// The last signal that was taken from it, in the lowest byte, and above how many there were.
static TAKEN: AtomicU32 = AtomicU32::new(0);

/// Whether [`PendingSignals::listen`] takes every signal.
static IS_LISTENING: AtomicBool = AtomicBool::new(false);

/// How long a command that was asked to stop, and has work to finish, waits for anything.
const AFTER_A_SIGNAL: Duration = Duration::from_secs(1);

/// How often a wait looks whether another thread has taken a signal.
const TICK: Duration = Duration::from_millis(50);

/// Signals that arrived, readable as a descriptor.
#[derive(Debug)]
pub struct PendingSignals(SignalSource);

#[derive(Debug)]
enum SignalSource {
    /// Those of this process.
    Process(&'static SignalFd),
    /// The receiving end of a [`SignalRelay`]: one byte for each signal.
    Relay(UnixStream),
}

/// Passes signals on to another thread's [`PendingSignals`].
#[derive(Debug)]
pub struct SignalRelay(UnixStream);

/// A signal interrupted the work. The exit code is [`SignalInterrupt::code`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SignalInterrupt(pub SignalNumber);

impl PendingSignals {
    /// Blocks the [`SignalNumber::ending`] signals in this thread and in threads that it starts later; call this
    /// before any is started. Those that are ignored stay ignored: blocked, they would arrive all the same. Ignores
    /// SIGPIPE, so that writing to a closed output is an error. Programs inherit both; [`super::launcher`] resets
    /// them for a VMM.
    pub fn block() -> anyhow::Result<PendingSignals> {
        ignore(Signal::SIGPIPE).context("ignore SIGPIPE")?;
        let set = set_of(SignalNumber::ending().filter(|signal| !signal.is_ignored()));
        set.thread_block().context("block signals")?;
        let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
        let signals = SignalFd::with_flags(&set, flags).context("make a signal descriptor")?;
        Ok(PendingSignals(SignalSource::Process(PROCESS.get_or_init(|| signals))))
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
    pub fn take(&mut self) -> Option<SignalNumber> {
        match &mut self.0 {
            SignalSource::Process(signals) => take_from(signals),
            SignalSource::Relay(stream) => {
                let mut byte = [0];
                stream.read_exact(&mut byte).ok()?;
                SignalNumber::of(byte[0].into())
            }
        }
    }

    /// Calls `receive` for every signal until `end` is readable or hangs up.
    pub fn listen(&mut self, end: BorrowedFd<'_>, mut receive: impl FnMut(SignalNumber)) {
        IS_LISTENING.store(true, Ordering::SeqCst);
        loop {
            let sources =
                [(false, self.as_fd(), PollFlags::POLLIN), (true, end, PollFlags::POLLIN)];
            let is_over = poll::ready(&sources, None).map_or(true, |ready| ready.contains(&true));
            while let Some(signal) = self.take() {
                receive(signal);
            }
            if is_over {
                IS_LISTENING.store(false, Ordering::SeqCst);
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
    pub fn pass_on(&self, signal: impl Into<SignalNumber>) {
        let _ = (&self.0).write(&[signal.into().number()]);
    }
}

fn take_from(signals: &SignalFd) -> Option<SignalNumber> {
    let signal = SignalNumber::of(signals.read_signal().ok()??.ssi_signo)?;
    let count = (TAKEN.load(Ordering::SeqCst) >> 8) + 1;
    TAKEN.store(count << 8 | u32::from(signal.number()), Ordering::SeqCst);
    Some(signal)
}

/// Lets a signal end a wait in any part of the program and in any thread. Before [`PendingSignals::block`] signals
/// end the program by themselves.
#[derive(Debug)]
pub struct InterruptWatch {
    /// [`TAKEN`] at its beginning.
    taken: u32,
}

#[derive(Clone, Copy, PartialEq)]
enum WatchSource {
    Wanted,
    Signals,
}

impl InterruptWatch {
    pub fn begin() -> InterruptWatch {
        InterruptWatch { taken: TAKEN.load(Ordering::SeqCst) }
    }

    /// The end of a wait that may last until `deadline`. It is sooner if this command was asked to stop before the wait
    /// began: only the command in the VM got that signal, but its user waits for both.
    pub fn deadline(&self, deadline: Instant) -> Instant {
        let signal = SignalNumber::of(self.taken & 0xff);
        if signal.is_some_and(|taken| STOPPING.iter().any(|stopping| taken == *stopping)) {
            deadline.min(Instant::now() + AFTER_A_SIGNAL)
        } else {
            deadline
        }
    }

    /// Waits until a descriptor is ready; returns `false` if `until` came first.
    ///
    /// # Errors
    /// [`SignalInterrupt`]: a signal arrived, and the descriptor is not ready.
    pub fn wait(
        &self,
        wanted: Option<(BorrowedFd<'_>, PollFlags)>,
        until: Option<Instant>,
    ) -> anyhow::Result<bool> {
        loop {
            let signals = PROCESS.get().filter(|_| !IS_LISTENING.load(Ordering::SeqCst));
            let sources = [
                wanted.map(|(fd, events)| (WatchSource::Wanted, fd, events)),
                signals.map(|fd| (WatchSource::Signals, fd.as_fd(), PollFlags::POLLIN)),
            ];
            let sources: Vec<_> = sources.into_iter().flatten().collect();
            let tick =
                (PROCESS.get().is_some() && signals.is_none()).then(|| Instant::now() + TICK);
            let limit = [until, tick].into_iter().flatten().min();
            let ready = poll::ready(&sources, limit).context("poll")?;
            if ready.contains(&WatchSource::Wanted) {
                return Ok(true);
            }
            if ready.contains(&WatchSource::Signals)
                && let Some(signal) = signals.and_then(take_from)
            {
                return Err(SignalInterrupt(signal).into());
            }
            let taken = TAKEN.load(Ordering::SeqCst);
            if taken != self.taken
                && let Some(signal) = SignalNumber::of(taken & 0xff)
            {
                return Err(SignalInterrupt(signal).into());
            }
            if until.is_some_and(|until| Instant::now() >= until) {
                return Ok(false);
            }
        }
    }
}

impl SignalInterrupt {
    /// The exit code of a shell: 128 plus the signal's number.
    pub fn code(self) -> u8 {
        128 + self.0.number()
    }
}

impl fmt::Display for SignalInterrupt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "interrupted by {}", self.0)
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
        assert_eq!(signals.take(), Some(Signal::SIGINT.into()));
        assert_eq!(signals.check(), Err(SignalInterrupt(Signal::SIGTERM.into())));
        assert_eq!(signals.check(), Ok(()));
        drop(relay);
        // A relay that is gone is not a signal.
        assert_eq!(signals.take(), None);
    }
}
