//! How long the host waits for a command.

use std::time::{Duration, Instant};

use crate::protocol::ExecRequest;

/// How long an agent may take to answer `Exec` with `Started` or `Error`.
pub(super) const START_LIMIT: Duration = Duration::from_secs(30);

/// How long past the command's timeout the host waits for the agent to enforce it.
const BACKSTOP: Duration = Duration::from_secs(2);

/// The time limits of one command.
#[derive(Debug)]
pub(super) struct ExecDeadline {
    requested: Instant,
    timeout: Option<Duration>,
    /// The agent has reported the command's start.
    pub started: bool,
    /// When to stop waiting for a command that was told to end because one of its streams broke here.
    closing: Option<Instant>,
    /// How long readers of the output on this host have kept the agent waiting.
    blocked: Duration,
}

impl ExecDeadline {
    /// Starts now.
    pub fn of(request: &ExecRequest) -> ExecDeadline {
        ExecDeadline {
            requested: Instant::now(),
            timeout: request.timeout_ms.map(Duration::from_millis),
            started: false,
            closing: None,
            blocked: Duration::ZERO,
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

    /// Extends the limits by the time since `start`, in which the agent was kept waiting.
    pub fn blocked_since(&mut self, start: Instant) {
        self.blocked += start.elapsed();
    }

    pub fn elapsed(&self) -> Duration {
        self.requested.elapsed()
    }

    /// When to stop waiting; `None` is never.
    pub fn limit(&self) -> Option<Instant> {
        if self.is_closing() {
            return self.closing;
        }
        if !self.started {
            return Some(self.requested + START_LIMIT + self.blocked);
        }
        // A timeout that the clock cannot express never ends.
        self.requested.checked_add(self.timeout?)?.checked_add(BACKSTOP + self.blocked)
    }

    /// Whether the limit has passed.
    pub fn is_over(&self) -> bool {
        self.limit().is_some_and(|limit| Instant::now() >= limit)
    }
}
