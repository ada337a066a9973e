//! Deleting a VM.

use anyhow::Result;

use super::manager::{VM_PATIENCE, VmManager};
use super::recover::settle::{SettledVm, settle};
use super::recover::teardown::{RemovalReport, finish_removal};
use crate::host::lock::FileLock;
use crate::model::record::reason;
use crate::model::{Refusal, RefusalKind, VmId, VmRecord};
use crate::registry::gone;

/// Ends a VM if it runs and deletes everything of it. The guest is not asked: nothing of it is kept.
pub fn remove(manager: &VmManager, id: &VmId, reason: &str) -> Result<RemovalReport> {
    let lock = manager.registry.lock_vm(id, VM_PATIENCE)?;
    match settle(manager, id, lock)? {
        SettledVm::Here(record, lock) => remove_settled(manager, *record, lock, reason),
        SettledVm::Gone(removed) => Ok(removed),
        SettledVm::Unknown => Err(gone(id).into()),
    }
}

/// The same for a command that is done with its VM: if somebody else deleted it, all the better.
pub fn remove_if_there(manager: &VmManager, id: &VmId, reason: &str) -> Result<RemovalReport> {
    remove(manager, id, reason).or_else(|error| {
        if !Refusal::is_of_kind(&error, RefusalKind::NotFound) {
            return Err(error);
        }
        Ok(RemovalReport { vm_id: id.clone(), deleted: false, reason: reason::ABSENT.into() })
    })
}

/// The same for a VM whose lock is held and whose record is true.
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
