//! Watching all VMs.

use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

use anyhow::Result;

use super::activity::watch_registry;
use crate::host::file_watch::{FileWatch, WakeReason};
use crate::lifecycle::manager::VmManager;

/// How long to wait at most: the registry does not show VMMs that end by themselves, and the time left
/// changes every second.
const REFRESH_INTERVAL: Duration = Duration::from_secs(1);

/// Reports when the state of VMs may have changed.
#[derive(Debug)]
pub struct VmWatcher(FileWatch);

impl VmWatcher {
    /// Create one before reading the state for the first time, so that no change is missed.
    pub fn new(manager: &VmManager) -> Result<VmWatcher> {
        watch_registry(manager).map(VmWatcher)
    }

    /// Waits until the state of VMs may have changed, or one of `others` is readable. Returns false if
    /// the reader of `output` is gone.
    pub fn wait(&self, others: &[BorrowedFd<'_>], output: BorrowedFd<'_>) -> Result<bool> {
        let woken = self.0.wait(others, Some(output), Some(Instant::now() + REFRESH_INTERVAL))?;
        Ok(woken != WakeReason::OutputClosed)
    }
}
