//! Whether the guest's timer keeps time.
//!
//! Linux measures the rate of its timer for 100 ms while it boots. If a busy host does not run an emulated processor in that
//! time, the measured rate is wrong: every sleep in the guest takes longer than it should, or never ends.

use std::fs;
use std::time::{Duration, Instant};

/// Ticks of the local APIC's timer per nanosecond, in units of 2^-32, as Linux writes them to `/proc/timer_list`. KVM and
/// QEMU count 1 GHz, which Linux divides by 16.
const TRUE_RATE: u64 = (1 << 32) / 16;

/// A sleep of this length is tried.
const TRIED: Duration = Duration::from_millis(10);

/// How long it may take.
const LATEST: Duration = Duration::from_micros(12_500);

/// How often it is tried. A host that is still busy makes a right timer late, too, but not each time.
const TRIES: usize = 5;

/// Whether sleeps end in time. They are not tried if the measured rate is right. Without a timer, this does not return.
pub fn keeps_time() -> bool {
    // Not every kernel has it.
    let list = fs::read_to_string("/proc/timer_list").unwrap_or_default();
    is_rate_right(&list) || (0..TRIES).any(|_| sleeps_in_time())
}

/// Whether the first processor's timer has a rate that cannot make anything late. The other processors use the same one.
fn is_rate_right(list: &str) -> bool {
    const DEVICE: &str = "Clock Event Device: ";
    let mut lines = list.lines().skip_while(|line| !line.starts_with("Per CPU device: 0"));
    let rate = match lines.find_map(|line| line.strip_prefix(DEVICE)) {
        // It counts with the time stamp counter, whose rate is not measured.
        Some("lapic-deadline") => return true,
        Some("lapic") => lines.find_map(|line| line.trim().strip_prefix("mult:")),
        _ => None,
    };
    let rate = rate.and_then(|rate| rate.trim().parse::<u64>().ok());
    rate.is_some_and(|rate| (TRUE_RATE / 2..=TRUE_RATE + TRUE_RATE / 8).contains(&rate))
}

/// Whether a sleep ends in time. It must be a sleep: while a processor works, its regular ticks end timers sooner.
fn sleeps_in_time() -> bool {
    let begin = Instant::now();
    std::thread::sleep(TRIED);
    begin.elapsed() < LATEST
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(device: &str, rate: u64) -> String {
        format!(
            "Timer List Version: v0.9\nTick Device: mode:     1\nBroadcast device\n\
             Clock Event Device: <NULL>\ntick_broadcast_mask: 0\n\n\
             Tick Device: mode:     1\nPer CPU device: 0\nClock Event Device: {device}\n \
             max_delta_ns:   34359738367\n mult:           {rate}\n shift:          32\n"
        )
    }

    #[test]
    fn a_rate_that_makes_timers_late_is_noticed() {
        for right in [265_241_074, 268_435_456, 270_906_135, 140_000_000] {
            assert!(is_rate_right(&list("lapic", right)), "{right}");
        }
        // Measured while the processor was stopped at times.
        for late in [407_756_678, 661_977_940, 430_395_451] {
            assert!(!is_rate_right(&list("lapic", late)), "{late}");
        }
        assert!(is_rate_right(&list("lapic-deadline", 11_150_270)));
        for unknown in [list("pit", 5_124_677), list("<NULL>", 0), String::new()] {
            assert!(!is_rate_right(&unknown), "{unknown}");
        }
    }
}
