//! The rate of this CPU's time stamp counter.

use std::time::{Duration, Instant};

/// The shortest time to measure. Reading both clocks is inaccurate by a few hundred nanoseconds, so the error
/// is about 30 ppm, that of a quartz.
const MIN_TIME: Duration = Duration::from_millis(10);

/// A measurement in progress. Begin it early, so that other work is done meanwhile.
#[derive(Debug, Clone, Copy)]
pub struct TscCalibration {
    ticks: u64,
    at: Instant,
}

impl TscCalibration {
    pub fn begin() -> Self {
        TscCalibration { ticks: ticks(), at: Instant::now() }
    }

    /// The rate in kHz. Waits for the rest of the shortest time to measure.
    pub fn khz(self) -> u64 {
        std::thread::sleep(MIN_TIME.saturating_sub(self.at.elapsed()));
        let (ticks, elapsed) = (ticks() - self.ticks, self.at.elapsed());
        (u128::from(ticks) * 1_000_000 / elapsed.as_nanos().max(1)) as u64
    }
}

fn ticks() -> u64 {
    // SAFETY: RDTSC is an unprivileged instruction of every x86-64 CPU. An emulated guest must be told the rate
    // of the counter, and no system call returns it.
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
