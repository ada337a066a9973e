//! The rate of this CPU's time stamp counter.

use std::time::{Duration, Instant};

/// The shortest time over which the rate is measured: reading both clocks is uncertain by some
/// hundred nanoseconds, so this leaves an error of about 30 parts in a million, a quartz's own.
const LEAST: Duration = Duration::from_millis(10);

/// A measurement under way: begun early, so that other work passes the time.
#[derive(Debug, Clone, Copy)]
pub struct TscCalibration {
    ticks: u64,
    at: Instant,
}

impl TscCalibration {
    pub fn begin() -> Self {
        TscCalibration { ticks: ticks(), at: Instant::now() }
    }

    /// The rate in kHz; waits for what is left of the shortest measuring time.
    pub fn khz(self) -> u64 {
        std::thread::sleep(LEAST.saturating_sub(self.at.elapsed()));
        let (ticks, elapsed) = (ticks() - self.ticks, self.at.elapsed());
        (u128::from(ticks) * 1_000_000 / elapsed.as_nanos().max(1)) as u64
    }
}

fn ticks() -> u64 {
    // SAFETY: RDTSC is an unprivileged instruction that every x86-64 has. There is no system call
    // for the rate the counter runs at, which a guest under emulation must be told.
    unsafe { core::arch::x86_64::_rdtsc() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_measurements_agree() {
        let (one, two) = (TscCalibration::begin().khz(), TscCalibration::begin().khz());
        assert!(one > 100_000 && one.abs_diff(two) < one / 100, "{one} {two}");
    }
}
