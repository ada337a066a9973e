//! The timer of the TTL. A VM that is never reaped ends by itself, and then uses a disk but no CPU.

use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use nix::sys::time::TimeSpec;
use nix::sys::timer::TimerSetTimeFlags;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags};

/// A deadline on a clock that also counts while the machine is suspended.
#[derive(Debug)]
pub struct TtlWatchdog(TimerFd);

impl TtlWatchdog {
    /// A timer without a deadline.
    ///
    /// # Errors
    /// The kernel's.
    pub fn new() -> nix::Result<TtlWatchdog> {
        TimerFd::new(ClockId::CLOCK_BOOTTIME, TimerFlags::TFD_CLOEXEC).map(TtlWatchdog)
    }

    /// Replaces the deadline; `None` removes it.
    ///
    /// # Errors
    /// The kernel's.
    pub fn set(&self, ttl: Option<Duration>) -> nix::Result<()> {
        match ttl {
            // A timer set to zero would never fire.
            Some(ttl) => {
                let ttl = TimeSpec::from_duration(ttl.max(Duration::from_millis(1)));
                self.0.set(Expiration::OneShot(ttl), TimerSetTimeFlags::empty())
            }
            None => self.0.unset(),
        }
    }
}

impl AsFd for TtlWatchdog {
    /// Readable past the deadline.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
