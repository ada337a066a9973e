//! Keeping an eye on all VMs.

use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

use anyhow::Result;

use super::activity::watch_registry;
use crate::host::file_watch::{FileWatch, WakeReason};
use crate::lifecycle::manager::VmManager;

/// The registry hears of everything but of VMMs that end by themselves, and of time, which passes by the
/// second.
const LOOK: Duration = Duration::from_secs(1);

/// Says when there may be something new to see of VMs.
#[derive(Debug)]
pub struct VmWatcher(FileWatch);

impl VmWatcher {
    /// Take one before the first look, so that nothing falls in between.
    pub fn new(manager: &VmManager) -> Result<VmWatcher> {
        watch_registry(manager).map(VmWatcher)
    }

    /// Waits until there may be something new, or something to read from `others`. Returns whether
    /// somebody still reads `output`.
    pub fn wait(&self, others: &[BorrowedFd<'_>], output: BorrowedFd<'_>) -> Result<bool> {
        let woken = self.0.wait(others, Some(output), Some(Instant::now() + LOOK))?;
        Ok(woken != WakeReason::Unheard)
    }
}
