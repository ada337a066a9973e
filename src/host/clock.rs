//! The clocks of this host.

use std::fs;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use nix::time::{ClockId, clock_gettime};

use crate::model::{BootId, ClockReading};

/// Reads the wall clock, the boot clock and the id of the boot.
pub fn now() -> Result<ClockReading> {
    Ok(ClockReading {
        unix: unix_time().as_secs_f64(),
        boottime: boottime()?.as_secs_f64(),
        boot_id: boot_id()?,
    })
}

/// The wall clock, since the Unix epoch.
#[expect(clippy::disallowed_methods, reason = "this is where the wall clock is read")]
pub fn unix_time() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// The clock of files' time stamps, since the Unix epoch. It advances in ticks of a few milliseconds, so two
/// changes in one tick have the same time stamp.
pub fn file_time() -> Result<Duration> {
    let clock = ClockId::CLOCK_REALTIME_COARSE;
    Ok(Duration::from(clock_gettime(clock).context("cannot read the clock")?))
}

/// The time since boot, including suspend.
pub fn boottime() -> Result<Duration> {
    let reading = clock_gettime(ClockId::CLOCK_BOOTTIME).context("cannot read the boot clock")?;
    Ok(Duration::from(reading))
}

/// The id of this boot.
pub fn boot_id() -> Result<BootId> {
    const PATH: &str = "/proc/sys/kernel/random/boot_id";
    let text = fs::read_to_string(PATH).with_context(|| format!("cannot read {PATH}"))?;
    Ok(BootId(text.trim().to_owned()))
}
