//! Quantities as users type them: `90s`, `10m`, `512M`, `2G`.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use super::refusal::{Refusal, RefusalKind};

/// A duration: a number with a unit (`90s`, `10m`, `1h30m`), or a bare number of seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimeSpan(pub Duration);

impl TimeSpan {
    /// This many whole seconds; zero if the number is negative.
    pub fn from_seconds(seconds: f64) -> TimeSpan {
        TimeSpan(Duration::from_secs(seconds.max(0.0) as u64))
    }

    /// This many seconds, as a user types them.
    pub fn shown(seconds: u64) -> String {
        TimeSpan(Duration::from_secs(seconds)).to_string()
    }

    /// Whole seconds, rounded up, so that `500ms` is not zero.
    pub fn seconds(self) -> u64 {
        self.0.as_secs() + u64::from(self.0.subsec_nanos() > 0)
    }
}

impl FromStr for TimeSpan {
    type Err = Refusal;

    fn from_str(text: &str) -> Result<Self, Refusal> {
        let parsed = match text.parse::<u64>() {
            Ok(seconds) => Some(Duration::from_secs(seconds)),
            Err(_) => humantime::parse_duration(text).ok(),
        };
        // Less than a century, so that no sum overflows.
        match parsed {
            Some(span) if span.as_secs() < 100 * 366 * 86_400 => Ok(TimeSpan(span)),
            _ => Err(Refusal::new(RefusalKind::Usage, format!("{text:?} is not a duration"))
                .hint("give a number with a unit, such as 90s, 10m or 1h30m")),
        }
    }
}

impl fmt::Display for TimeSpan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&humantime::format_duration(self.0).to_string().replace(' ', ""))
    }
}

/// An amount of memory in MiB: a number with `M`/`MiB` or `G`/`GiB`, or a bare number of MiB.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemMib(pub u32);

impl MemMib {
    /// This many MiB, as a user types them.
    pub fn shown(mib: u64) -> String {
        u32::try_from(mib).map_or_else(|_| format!("{mib}M"), |mib| MemMib(mib).to_string())
    }
}

impl FromStr for MemMib {
    type Err = Refusal;

    fn from_str(text: &str) -> Result<Self, Refusal> {
        let digits = text.bytes().take_while(u8::is_ascii_digit).count();
        let (number, unit) = text.split_at(digits);
        let factor = match unit.to_ascii_lowercase().as_str() {
            "" | "m" | "mb" | "mib" => 1,
            "g" | "gb" | "gib" => 1024,
            _ => 0,
        };
        number
            .parse::<u32>()
            .ok()
            .and_then(|number| number.checked_mul(factor))
            .filter(|_| factor > 0)
            .map(MemMib)
            .ok_or_else(|| {
                Refusal::new(RefusalKind::Usage, format!("{text:?} is not an amount of memory"))
                    .hint("give MiB or GiB, such as 512M or 2G")
            })
    }
}

impl fmt::Display for MemMib {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            mib if mib > 0 && mib % 1024 == 0 => f.pad(&format!("{}G", mib / 1024)),
            mib => f.pad(&format!("{mib}M")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans() {
        for (text, seconds) in [("90", 90), ("90s", 90), ("10m", 600), ("1h30m", 5400), ("1ms", 1)]
        {
            assert_eq!(text.parse::<TimeSpan>().unwrap().seconds(), seconds, "{text}");
        }
        for bad in ["", "x", "-1", "1y1000000h", "1.5", "99999999999999999999", "5 parsecs"] {
            assert!(bad.parse::<TimeSpan>().is_err(), "{bad}");
        }
        assert_eq!("1h30m".parse::<TimeSpan>().unwrap().to_string(), "1h30m");
    }

    #[test]
    fn memory() {
        for (text, mib) in
            [("512", 512), ("512M", 512), ("512MiB", 512), ("2G", 2048), ("1gib", 1024)]
        {
            assert_eq!(text.parse::<MemMib>().unwrap().0, mib, "{text}");
        }
        for bad in ["", "G", "-1", "1.5G", "1T", "9999999999", "4194304G", "1 G"] {
            assert!(bad.parse::<MemMib>().is_err(), "{bad}");
        }
        assert_eq!(MemMib(2048).to_string(), "2G");
        assert_eq!(MemMib(1500).to_string(), "1500M");
    }
}
