//! Two clocks. Within one boot the boot-time clock decides, because it cannot be set; across boots the wall
//! clock must do.

use serde::{Deserialize, Serialize};

/// The kernel's random id of the current boot.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct BootId(pub String);

/// One reading of both clocks.
#[derive(Debug, Clone, PartialEq)]
pub struct ClockReading {
    /// Seconds since the Unix epoch.
    pub unix: f64,
    /// Seconds since boot, suspend included (CLOCK_BOOTTIME).
    pub boottime: f64,
    pub boot_id: BootId,
}

/// When a VM expires.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VmExpiry {
    pub expires_at: f64,
    pub expires_boottime: f64,
    pub boot_id: BootId,
}

impl VmExpiry {
    /// The moment `ttl_seconds` after `now`.
    pub fn after(now: &ClockReading, ttl_seconds: u64) -> Self {
        VmExpiry {
            expires_at: now.unix + ttl_seconds as f64,
            expires_boottime: now.boottime + ttl_seconds as f64,
            boot_id: now.boot_id.clone(),
        }
    }

    /// Moves the end by this many seconds.
    pub fn extend_by(&mut self, seconds: u64) {
        self.expires_at += seconds as f64;
        self.expires_boottime += seconds as f64;
    }

    /// Seconds left at `now`; negative once it has passed.
    pub fn remaining(&self, now: &ClockReading) -> f64 {
        if self.boot_id == now.boot_id {
            self.expires_boottime - now.boottime
        } else {
            self.expires_at - now.unix
        }
    }

    /// Whether the VM has expired. At the last instant it has.
    pub fn has_passed(&self, now: &ClockReading) -> bool {
        self.remaining(now) <= 0.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now(unix: f64, boottime: f64, boot: &str) -> ClockReading {
        ClockReading { unix, boottime, boot_id: BootId(boot.into()) }
    }

    #[test]
    fn a_wall_clock_that_jumps_does_not_expire_a_vm_of_this_boot() {
        let expiry = VmExpiry::after(&now(1000.0, 50.0, "a"), 60);
        assert!(!expiry.has_passed(&now(9_999_999.0, 109.0, "a")));
        assert!(expiry.has_passed(&now(0.0, 110.0, "a")));
    }

    #[test]
    fn after_a_reboot_the_wall_clock_decides() {
        let expiry = VmExpiry::after(&now(1000.0, 50.0, "a"), 60);
        assert!(!expiry.has_passed(&now(1059.0, 3.0, "b")));
        assert!(expiry.has_passed(&now(1060.0, 3.0, "b")));
    }
}
