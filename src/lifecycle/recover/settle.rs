//! Bringing a record and the world together: what the holder of a VM's lock does first.

use anyhow::Result;

use super::teardown::{self, Removed, finish_removal};
use crate::host::lock::Lock;
use crate::lifecycle::manager::{Manager, VM_PATIENCE, liveness_of, this_boot};
use crate::model::reconcile::{Repair, repair};
use crate::model::record::reason;
use crate::model::{VmId, VmRecord};
use crate::registry::gone;

/// A VM whose lock we hold.
pub enum Settled {
    /// Here it is, and what the record says is true. The lock stays ours.
    Here(Box<VmRecord>, Lock),
    /// An abandoned operation was finished, and there is no such VM any more.
    Gone(Removed),
    /// There is no record of it, and its lock file is gone too.
    Unknown,
}

/// Waits for a VM's lock and settles it. Errors: `NotFound` if there is no such VM, or none any more.
pub fn acquire(manager: &Manager, id: &VmId) -> Result<(VmRecord, Lock)> {
    let lock = manager.registry.lock_vm(id, VM_PATIENCE)?;
    match settle(manager, id, lock)? {
        Settled::Here(record, lock) => Ok((*record, lock)),
        Settled::Gone(_) | Settled::Unknown => Err(gone(id).into()),
    }
}

/// Finishes whatever an earlier command left undone.
pub fn settle(manager: &Manager, id: &VmId, lock: Lock) -> Result<Settled> {
    let Some(record) = manager.registry.read()?.vms.get(id).cloned() else {
        lock.remove()?;
        return Ok(Settled::Unknown);
    };
    let verdict = repair(&record.state, liveness_of(&record, &this_boot()?)?);
    match verdict {
        Repair::Keep => Ok(Settled::Here(Box::new(record), lock)),
        Repair::Stop(error) => {
            let record = teardown::bring_down(manager, &record, error.map(str::to_owned))?;
            Ok(Settled::Here(Box::new(record), lock))
        }
        Repair::RollBack => {
            let record = manager.change(id, |record| {
                record.begin_remove(reason::ABANDONED);
                Ok(record.clone())
            })?;
            Ok(Settled::Gone(finish_removal(manager, &record, lock)?))
        }
        Repair::Remove => Ok(Settled::Gone(finish_removal(manager, &record, lock)?)),
    }
}
