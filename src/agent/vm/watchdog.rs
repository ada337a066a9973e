//! The TTL: past it the VM ends by itself, so that one nobody reaps costs a disk and no CPU.

use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use nix::sys::time::TimeSpec;
use nix::sys::timer::TimerSetTimeFlags;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags};

/// A deadline on the clock that also runs while the machine sleeps.
#[derive(Debug)]
pub struct TtlWatchdog(TimerFd);

impl TtlWatchdog {
    /// One without a deadline.
    ///
    /// # Errors
    /// Where the kernel has no such timers.
    pub fn new() -> nix::Result<TtlWatchdog> {
        TimerFd::new(ClockId::CLOCK_BOOTTIME, TimerFlags::TFD_CLOEXEC).map(TtlWatchdog)
    }

    /// Sets the deadline, replacing an earlier one; `None` takes it away.
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
