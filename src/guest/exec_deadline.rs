//! How long the host waits for a command.

use std::time::{Duration, Instant};

use crate::protocol::ExecRequest;

/// How long an agent may take to answer `Exec` with `Started` or `Error`.
pub(super) const START_LIMIT: Duration = Duration::from_secs(30);

/// How long past the command's timeout, or past the VM's expiry, the host waits for the agent to enforce it. An
/// agent needs up to 1.5 s to end all processes of its VM.
const BACKSTOP: Duration = Duration::from_secs(2);

/// How long before the VM's expiry a command with a terminal is warned.
const NOTICE: Duration = Duration::from_secs(60);

/// How often to look whether the guest is paused, when a command was told to end.
pub(super) const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// How long a command may take to end after its output lost its reader.
pub(super) const OUTPUT_GRACE: Duration = Duration::from_millis(500);

/// How long a command may take to end and clean up after its input could not be read.
pub(super) const INPUT_GRACE: Duration = Duration::from_secs(5);

/// The time limits of one command. They hold whatever the agent and the readers of the output on this host do.
#[derive(Debug)]
pub(super) struct ExecDeadline {
    requested: Instant,
    timeout: Option<Duration>,
    /// The agent has reported the command's start.
    pub started: bool,
    /// When to stop waiting for a command that was told to end because one of its streams broke here.
    closing: Option<Instant>,
    /// When the VM expires, as far as known.
    expiry: Option<Instant>,
    /// Whether it was said that the VM expires soon.
    was_warned: bool,
    /// Whether the limit had passed at the last look.
    was_over: bool,
}

/// What a command has exceeded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ExecLimit {
    /// The time to end after one of its streams broke.
    Closing,
    Start,
    Timeout,
    Expiry,
}

impl ExecDeadline {
    /// Starts now.
    pub fn of(request: &ExecRequest, expiry: Option<Instant>) -> ExecDeadline {
        ExecDeadline {
            requested: Instant::now(),
            timeout: request.timeout_ms.map(Duration::from_millis),
            started: false,
            closing: None,
            expiry,
            was_warned: false,
            was_over: false,
        }
    }

    /// Gives the command `grace` to end. Returns whether it had not been told to end before.
    pub fn close(&mut self, grace: Duration) -> bool {
        let first = !self.is_closing();
        self.closing.get_or_insert(Instant::now() + grace);
        first
    }

    pub fn is_closing(&self) -> bool {
        self.closing.is_some()
    }

    pub fn elapsed(&self) -> Duration {
        self.requested.elapsed()
    }

    /// Sets when the VM expires: it may have been given more time.
    pub fn renew(&mut self, expiry: Option<Instant>) {
        self.expiry = expiry;
        self.was_warned &= self.expires_soon();
    }

    /// When to say that the VM expires soon, unless that was said.
    pub fn warning(&self) -> Option<Instant> {
        let expiry = self.expiry.filter(|_| self.started && !self.was_warned)?;
        Some(expiry.checked_sub(NOTICE).unwrap_or(self.requested))
    }

    /// Whether it is time for that.
    pub fn warns(&self) -> bool {
        self.warning().is_some_and(|at| Instant::now() >= at)
    }

    /// The time left, if it is time for that. It is then said.
    pub fn warn(&mut self) -> Option<Duration> {
        let left = self.expiry.filter(|_| self.warns())?.checked_duration_since(Instant::now());
        self.was_warned = true;
        left
    }

    fn expires_soon(&self) -> bool {
        self.expiry.is_some_and(|at| at.saturating_duration_since(Instant::now()) <= NOTICE)
    }

    /// When to stop waiting, and why; `None` is never.
    pub fn limit(&self) -> Option<(Instant, ExecLimit)> {
        let closing = self.closing.map(|at| (at, ExecLimit::Closing));
        let start = (!self.started).then(|| (self.requested + START_LIMIT, ExecLimit::Start));
        // A timeout that the clock cannot express never ends.
        let timeout = self.timeout.filter(|_| self.started);
        let timeout = timeout.and_then(|timeout| self.requested.checked_add(timeout));
        let timeout = timeout.map(|at| (at + BACKSTOP, ExecLimit::Timeout));
        let expiry = self.expiry.map(|at| (at + BACKSTOP, ExecLimit::Expiry));
        [closing, start, timeout, expiry].into_iter().flatten().min_by_key(|(at, _)| *at)
    }

    /// The limit that has passed. It is reported at the second look: what the agent has sent in time is read before,
    /// even if mayfly itself was suspended.
    pub fn exceeded(&mut self) -> Option<ExecLimit> {
        let over = self.limit().filter(|(at, _)| Instant::now() >= *at);
        let was_over = std::mem::replace(&mut self.was_over, over.is_some());
        over.filter(|_| was_over).map(|(_, limit)| limit)
    }
}
