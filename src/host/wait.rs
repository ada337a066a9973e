//! Waiting for a VM: up to a deadline, until its VMM ends, or until a signal arrives.

use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::signals::PendingSignals;
use crate::model::{Refusal, RefusalKind};
use crate::sys::poll::{self, PollFlags};

/// What ends a wait: a deadline, and optionally a descriptor that becomes readable and signals.
#[derive(Debug)]
pub struct WaitLimit<'a> {
    pub deadline: Instant,
    /// Readable when the VM has ended: its VMM's pidfd.
    pub watch: Option<BorrowedFd<'a>>,
    pub signals: Option<&'a mut PendingSignals>,
}

#[derive(Clone, Copy, PartialEq)]
enum WaitSource {
    Wanted,
    Vm,
    Signals,
}

impl<'a> WaitLimit<'a> {
    /// Only a deadline.
    pub fn until(deadline: Instant) -> WaitLimit<'a> {
        WaitLimit { deadline, watch: None, signals: None }
    }

    /// Only a deadline, this far from now.
    pub fn within(limit: Duration) -> WaitLimit<'a> {
        WaitLimit::until(Instant::now() + limit)
    }

    /// Adds a descriptor that ends the wait when it is readable.
    pub fn watching(mut self, fd: BorrowedFd<'a>) -> WaitLimit<'a> {
        self.watch = Some(fd);
        self
    }

    /// Lets signals end the wait.
    pub fn interruptible(mut self, signals: &'a mut PendingSignals) -> WaitLimit<'a> {
        self.signals = Some(signals);
        self
    }

    /// Waits for `events` on `fd`, but only until `pause`; returns `false` if that came first. `what` is quoted
    /// in errors.
    ///
    /// # Errors
    /// - [`Refusal`] of kind `Agent`: the deadline passed, or the VM ended.
    /// - [`SignalInterrupt`](super::signals::SignalInterrupt): a signal arrived.
    pub fn ready(
        &mut self,
        fd: BorrowedFd<'_>,
        events: PollFlags,
        pause: Option<Instant>,
        what: &str,
    ) -> Result<bool> {
        self.poll(Some((fd, events)), pause, what)
    }

    /// Waits for `length`, when no descriptor could tell that it is time to try again.
    ///
    /// # Errors
    /// As for [`WaitLimit::ready`].
    pub fn pause(&mut self, length: Duration, what: &str) -> Result<()> {
        self.poll(None, Some(Instant::now() + length), what).map(drop)
    }

    fn poll(
        &mut self,
        wanted: Option<(BorrowedFd<'_>, PollFlags)>,
        pause: Option<Instant>,
        what: &str,
    ) -> Result<bool> {
        loop {
            let signals = self.signals.as_ref().map(|signals| signals.as_fd());
            let sources = [
                wanted.map(|(fd, events)| (WaitSource::Wanted, fd, events)),
                self.watch.map(|watch| (WaitSource::Vm, watch, PollFlags::POLLIN)),
                signals.map(|signals| (WaitSource::Signals, signals, PollFlags::POLLIN)),
            ];
            let sources: Vec<_> = sources.into_iter().flatten().collect();
            let until = pause.map_or(self.deadline, |pause| pause.min(self.deadline));
            let ready = poll::ready(&sources, Some(until)).context("poll")?;
            if let Some(signals) = &mut self.signals {
                signals.check()?;
            }
            // Even if bytes have arrived: a guest may send one from time to time without end.
            let now = Instant::now();
            if now >= self.deadline {
                let message = format!("no answer from the agent in time ({what})");
                return Err(Refusal::new(RefusalKind::Agent, message).into());
            }
            // Before the end of the VM, because the agent may have answered before that.
            if ready.contains(&WaitSource::Wanted) {
                return Ok(true);
            }
            if ready.contains(&WaitSource::Vm) {
                let message = format!("the VM ended while waiting for {what}");
                return Err(Refusal::new(RefusalKind::Agent, message).into());
            }
            if pause.is_some_and(|pause| now >= pause) {
                return Ok(false);
            }
        }
    }
}
