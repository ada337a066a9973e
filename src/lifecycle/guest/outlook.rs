//! What the registry says about a VM while a command runs in it.

use std::cell::RefCell;
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::denial_watch::DenialWatch;
use crate::guest::{VmEnding, VmOutlook};
use crate::host::clock;
use crate::lifecycle::manager::VmManager;
use crate::model::{VmExpiry, VmId, VmPhase, VmRecord};
use crate::registry::Registry;

/// How much earlier than on this host a VM may find that its time is over: its clock drifts.
const DRIFT: f64 = 2.0;

/// A VM in the registry.
#[derive(Debug)]
pub struct RegisteredVm {
    registry: Registry,
    id: VmId,
    /// Its name, or its id.
    name: String,
    /// The last that was known, for a VM that was deleted meanwhile.
    expiry: RefCell<VmExpiry>,
    waits: Arc<AtomicBool>,
    denials: Option<DenialWatch>,
    say: fn(&str),
}

impl RegisteredVm {
    /// `waits` tells whether the guest is paused.
    pub fn new(manager: &VmManager, record: &VmRecord, waits: Arc<AtomicBool>) -> RegisteredVm {
        let expiry = RefCell::new(record.expiry.clone());
        let (id, name) = (record.id().clone(), record.manifest.display_name().to_owned());
        let (registry, say) = (manager.registry.clone(), manager.say);
        RegisteredVm { registry, id, name, expiry, waits, denials: None, say }
    }

    /// The same, which also tells what the VM is denied.
    pub fn telling(self, denials: Option<DenialWatch>) -> RegisteredVm {
        RegisteredVm { denials, ..self }
    }

    /// Its record, unless it was deleted or the registry cannot be read.
    fn latest(&self) -> Option<VmRecord> {
        let record = self.registry.read().ok()?.vms.get(&self.id)?.clone();
        self.expiry.replace(record.expiry.clone());
        Some(record)
    }

    /// Seconds until it expires.
    fn remaining(&self) -> Option<f64> {
        Some(self.expiry.borrow().remaining(&clock::now().ok()?))
    }
}

/// The time in so many seconds, or so many seconds ago. An expiry that has passed must not become the present: its VM
/// would be waited for again and again.
fn in_seconds(left: f64) -> Option<Instant> {
    let distance = Duration::try_from_secs_f64(left.abs()).ok()?;
    let now = Instant::now();
    if left < 0.0 { now.checked_sub(distance) } else { now.checked_add(distance) }
}

impl VmOutlook for RegisteredVm {
    fn expires(&self) -> Option<Instant> {
        self.latest();
        in_seconds(self.remaining()?)
    }

    fn name(&self) -> &str {
        &self.name
    }

    fn ending(&self) -> Option<VmEnding> {
        let record = self.latest();
        if self.remaining().is_some_and(|left| left <= DRIFT) {
            return Some(VmEnding::Expired);
        }
        match record.map(|record| record.state) {
            // It ends by itself: the guest powered off, or its VMM crashed.
            Some(VmPhase::Started { .. }) => None,
            _ => Some(VmEnding::Stopped),
        }
    }

    fn news_source(&self) -> Option<BorrowedFd<'_>> {
        self.denials.as_ref()?.source()
    }

    fn news(&self) -> Vec<String> {
        self.denials.as_ref().map(DenialWatch::news).unwrap_or_default()
    }

    fn conclusion(&self, shown: Vec<String>) -> Vec<String> {
        self.denials.as_ref().map_or(Vec::new(), |denials| denials.conclusion(shown))
    }

    fn tell(&self, line: &str) {
        (self.say)(line);
    }

    fn is_waiting(&self) -> bool {
        self.waits.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_expiry_that_has_passed_stays_in_the_past() {
        let second = Duration::from_secs(1);
        assert!(in_seconds(-3.0).unwrap() + second < Instant::now());
        assert!(in_seconds(3.0).unwrap() > Instant::now() + second);
        assert_eq!(in_seconds(f64::MAX), None);
    }
}
