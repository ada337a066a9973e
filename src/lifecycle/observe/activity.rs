//! What VMs are doing, and waiting until that changes.

use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use anyhow::Result;

use crate::host::clock;
use crate::host::file_watch::{FileWatch, WakeReason};
use crate::lifecycle::manager::VmManager;
use crate::model::{VmId, VmPhase, VmRecord};
use crate::sys::process::PidFd;

/// How often to check whether an operation on a VM is still going on.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// How long to wait at most: the registry does not show VMMs that end by themselves, and the time left
/// changes every second.
const REFRESH_INTERVAL: Duration = Duration::from_secs(1);

/// What a VM is doing.
#[derive(Debug)]
pub enum VmActivity {
    /// Its VMM runs. It may be starting or stopping.
    Running(VmRecord, PidFd),
    /// An operation is in progress, with no VMM at the moment; or the VM is elsewhere, so that no VMM can be
    /// watched.
    Changing(VmRecord),
    /// Nothing is in progress. If the record is not at rest, an operation was abandoned.
    Idle(VmRecord),
    /// There is no such VM.
    Gone,
}

impl VmActivity {
    /// What a VM is doing now.
    pub fn of(manager: &VmManager, id: &VmId) -> Result<VmActivity> {
        loop {
            let Some(record) = manager.registry.read()?.vms.get(id).cloned() else {
                return Ok(VmActivity::Gone);
            };
            let observed = manager.observe(record.clone(), &clock::now()?)?;
            if let VmPhase::Elsewhere { .. } = observed.state {
                return Ok(VmActivity::Changing(record));
            }
            let vmm = manager.process_of(&record)?;
            if !record.is_at_rest() && !manager.registry.is_vm_locked(id)? {
                if manager.registry.read()?.vms.get(id) != Some(&record) {
                    // The operation ended between the two checks.
                    continue;
                }
                return Ok(VmActivity::Idle(record));
            }
            return Ok(match vmm {
                Some(vmm) => VmActivity::Running(record, vmm),
                None if record.is_at_rest() => {
                    VmActivity::Idle(manager.observe(record, &clock::now()?)?)
                }
                None => VmActivity::Changing(record),
            });
        }
    }

    /// The VM's record, if there is one.
    pub fn record(&self) -> Option<&VmRecord> {
        match self {
            VmActivity::Running(record, _)
            | VmActivity::Changing(record)
            | VmActivity::Idle(record) => Some(record),
            VmActivity::Gone => None,
        }
    }

    /// Waits until the VM may be doing something else, `watch` reports a change, the reader of `output`
    /// is gone, or `deadline` has passed.
    pub fn wait(
        &self,
        watch: &FileWatch,
        output: Option<BorrowedFd<'_>>,
        deadline: Option<Instant>,
    ) -> Result<WakeReason> {
        match self {
            VmActivity::Running(_, vmm) => watch.wait(&[vmm.as_fd()], output, deadline),
            VmActivity::Changing(_) => {
                let next_check = Instant::now() + CHECK_INTERVAL;
                let until = deadline.map_or(next_check, |deadline| deadline.min(next_check));
                match watch.wait(&[], output, Some(until))? {
                    WakeReason::TimedOut
                        if deadline.is_none_or(|deadline| next_check < deadline) =>
                    {
                        Ok(WakeReason::Changed)
                    }
                    woken => Ok(woken),
                }
            }
            VmActivity::Idle(_) | VmActivity::Gone => watch.wait(&[], output, deadline),
        }
    }
}

/// A watch for every change of the registry.
pub fn watch_registry(manager: &VmManager) -> Result<FileWatch> {
    let watch = FileWatch::new()?;
    watch.arrivals(&manager.settings.directories.state)?;
    Ok(watch)
}

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
