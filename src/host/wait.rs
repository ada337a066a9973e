//! Waiting for a VM: up to a deadline, until its VMM ends, or until a signal arrives.

use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::signals::PendingSignals;
use crate::model::{Refusal, RefusalKind};
use crate::sys::poll::{self, PollFd, PollFlags};

/// What ends a wait: a deadline, and optionally a descriptor that becomes readable and signals.
#[derive(Debug)]
pub struct WaitLimit<'a> {
    pub deadline: Instant,
    /// Readable when the VM has ended: its VMM's pidfd.
    pub watch: Option<BorrowedFd<'a>>,
    pub signals: Option<&'a mut PendingSignals>,
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
            let mut fds = Vec::with_capacity(3);
            fds.extend(wanted.map(|(fd, events)| PollFd::new(fd, events)));
            let watched = self.watch.map(|watch| {
                fds.push(PollFd::new(watch, PollFlags::POLLIN));
                fds.len() - 1
            });
            let signalled = self.signals.as_ref().map(|signals| {
                fds.push(PollFd::new(signals.as_fd(), PollFlags::POLLIN));
                fds.len() - 1
            });
            let until = pause.map_or(self.deadline, |pause| pause.min(self.deadline));
            poll::wait(&mut fds, Some(until)).context("poll")?;
            let is_ready = |index: usize| fds[index].any() == Some(true);
            let ready = wanted.is_some() && is_ready(0);
            let gone = watched.is_some_and(is_ready);
            if signalled.is_some_and(is_ready)
                && let Some(signals) = &mut self.signals
            {
                signals.check()?;
            }
            // Even if bytes have arrived: a guest may send one from time to time without end.
            let now = Instant::now();
            if now >= self.deadline {
                let message = format!("no answer from the agent in time ({what})");
                return Err(Refusal::new(RefusalKind::Agent, message).into());
            }
            // Before the end of the VM, because the agent may have answered before that.
            if ready {
                return Ok(true);
            }
            if gone {
                let message = format!("the VM ended while waiting for {what}");
                return Err(Refusal::new(RefusalKind::Agent, message).into());
            }
            if pause.is_some_and(|pause| now >= pause) {
                return Ok(false);
            }
        }
    }
}
