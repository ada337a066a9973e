//! Deleting a VM.

use anyhow::Result;

use super::manager::{Manager, VM_PATIENCE};
use super::recover::settle::{Settled, settle};
use super::recover::teardown::{Removed, finish_removal};
use crate::host::lock::Lock;
use crate::model::record::reason;
use crate::model::{Kind, Refusal, VmId, VmRecord};
use crate::registry::gone;

/// Ends a VM if it runs and deletes everything of it. The guest is not asked: nothing of it is kept.
pub fn remove(manager: &Manager, id: &VmId, reason: &str) -> Result<Removed> {
    let lock = manager.registry.lock_vm(id, VM_PATIENCE)?;
    match settle(manager, id, lock)? {
        Settled::Here(record, lock) => remove_settled(manager, *record, lock, reason),
        Settled::Gone(removed) => Ok(removed),
        Settled::Unknown => Err(gone(id).into()),
    }
}

/// The same for a command that is done with its VM: if somebody else deleted it, all the better.
pub fn remove_if_there(manager: &Manager, id: &VmId, reason: &str) -> Result<Removed> {
    remove(manager, id, reason).or_else(|error| {
        if !Refusal::is_of_kind(&error, Kind::NotFound) {
            return Err(error);
        }
        Ok(Removed { vm_id: id.clone(), deleted: false, reason: reason::ABSENT.into() })
    })
}

/// The same for a VM whose lock is held and whose record is true.
pub fn remove_settled(
    manager: &Manager,
    record: VmRecord,
    lock: Lock,
    reason: &str,
) -> Result<Removed> {
    let record = manager.change(record.id(), |record| {
        record.begin_remove(reason);
        Ok(record.clone())
    })?;
    finish_removal(manager, &record, lock)
}
