//! Making a VM's record match reality: the first step of every command that holds a VM's lock.

use anyhow::Result;

use super::teardown::{self, finish_removal};
use crate::host::clock;
use crate::host::lock::FileLock;
use crate::lifecycle::liveness::liveness_of;
use crate::lifecycle::manager::{LOCK_TIMEOUT, VmManager};
use crate::lifecycle::removal::RemovalReport;
use crate::model::reconcile::{RecordRepair, observe, repair};
use crate::model::record::{elsewhere, reason};
use crate::model::{Refusal, VmId, VmPhase, VmRecord};
use crate::registry::gone;

/// A VM after [`settle`].
pub enum SettledVm {
    /// The VM, with a record that is true, and its lock.
    Present(Box<VmRecord>, FileLock),
    /// An abandoned operation was finished, and the VM no longer exists.
    Gone(RemovalReport),
    /// The VM has no record. Its lock file was deleted.
    Unknown,
    /// The VM is elsewhere, and nothing was done.
    Elsewhere(Refusal),
}

/// Waits for a VM's lock and settles the VM.
///
/// # Errors
/// `NotFound` if there is no such VM, or no longer; `Busy` if another command does not release the
/// lock, or the VM is elsewhere.
pub fn acquire(manager: &VmManager, id: &VmId) -> Result<(VmRecord, FileLock)> {
    let lock = manager.registry.lock_vm(id, LOCK_TIMEOUT)?;
    match settle(manager, id, lock)? {
        SettledVm::Present(record, lock) => Ok((*record, lock)),
        SettledVm::Gone(_) | SettledVm::Unknown => Err(gone(id).into()),
        SettledVm::Elsewhere(refusal) => Err(refusal.into()),
    }
}

/// Finishes what an earlier command left undone.
pub fn settle(manager: &VmManager, id: &VmId, lock: FileLock) -> Result<SettledVm> {
    let Some(record) = manager.registry.read()?.vms.get(id).cloned() else {
        lock.remove()?;
        return Ok(SettledVm::Unknown);
    };
    let liveness = liveness_of(&record, &clock::now()?)?;
    if let VmPhase::Elsewhere { place } = observe(record.clone(), liveness).state {
        return Ok(SettledVm::Elsewhere(elsewhere(record.manifest.display_name(), &place)));
    }
    match repair(&record.state, liveness) {
        RecordRepair::Keep => Ok(SettledVm::Present(Box::new(record), lock)),
        RecordRepair::Stop(error) => {
            let record = teardown::bring_down(manager, &record, error.map(str::to_owned))?;
            Ok(SettledVm::Present(Box::new(record), lock))
        }
        RecordRepair::RollBack => {
            let record = manager.change(id, |record| {
                record.begin_remove(reason::ABANDONED);
                Ok(record.clone())
            })?;
            Ok(SettledVm::Gone(finish_removal(manager, &record, lock)?))
        }
        RecordRepair::Remove => Ok(SettledVm::Gone(finish_removal(manager, &record, lock)?)),
    }
}
