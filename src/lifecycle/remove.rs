//! `rm`: deleting a VM.

use anyhow::Result;

use super::manager::{LOCK_TIMEOUT, VmManager};
use super::recover::settle::{SettledVm, settle};
use super::recover::teardown::finish_removal;
use super::removal::{RemovalReport, RemovedThing};
use crate::host::lock::FileLock;
use crate::model::{Refusal, RefusalKind, VmId, VmRecord};
use crate::registry::gone;

/// Stops a VM if it is running and deletes all of its files. The guest is not asked, because nothing of
/// it is kept.
///
/// # Errors
/// `NotFound` if there is no such VM, `Busy` if another command does not release its lock or the VM is
/// elsewhere.
pub fn remove(manager: &VmManager, id: &VmId, reason: &str) -> Result<RemovalReport> {
    let lock = manager.registry.lock_vm(id, LOCK_TIMEOUT)?;
    match settle(manager, id, lock)? {
        SettledVm::Present(record, lock) => remove_settled(manager, *record, lock, reason),
        SettledVm::Gone(removed) => Ok(removed),
        SettledVm::Unknown => Err(gone(id).into()),
        SettledVm::Elsewhere(refusal) => Err(refusal.into()),
    }
}

/// Like [`remove`], but succeeds if the VM has already been deleted.
pub fn remove_if_there(manager: &VmManager, id: &VmId, reason: &str) -> Result<RemovalReport> {
    remove(manager, id, reason).or_else(|error| {
        if !Refusal::is_of_kind(&error, RefusalKind::NotFound) {
            return Err(error);
        }
        Ok(RemovalReport::explicit(RemovedThing::Vm(id.clone()), false))
    })
}

/// Like [`remove`], for a VM whose lock is held and that is settled.
pub fn remove_settled(
    manager: &VmManager,
    record: VmRecord,
    lock: FileLock,
    reason: &str,
) -> Result<RemovalReport> {
    let record = manager.change(record.id(), |record| {
        record.begin_remove(reason);
        Ok(record.clone())
    })?;
    finish_removal(manager, &record, lock)
}
