//! Bringing a record and the world together: what the holder of a VM's lock does first.

use anyhow::Result;

use super::teardown::{self, RemovalReport, finish_removal};
use crate::host::clock;
use crate::host::lock::FileLock;
use crate::lifecycle::manager::{VM_PATIENCE, VmManager, liveness_of};
use crate::model::reconcile::{RecordRepair, repair};
use crate::model::record::reason;
use crate::model::{VmId, VmRecord};
use crate::registry::gone;

/// A VM whose lock we hold.
pub enum SettledVm {
    /// Here it is, and what the record says is true. The lock stays ours.
    Here(Box<VmRecord>, FileLock),
    /// An abandoned operation was finished, and there is no such VM any more.
    Gone(RemovalReport),
    /// There is no record of it, and its lock file is gone too.
    Unknown,
}

/// Waits for a VM's lock and settles it. Errors: `NotFound` if there is no such VM, or none any more.
pub fn acquire(manager: &VmManager, id: &VmId) -> Result<(VmRecord, FileLock)> {
    let lock = manager.registry.lock_vm(id, VM_PATIENCE)?;
    match settle(manager, id, lock)? {
        SettledVm::Here(record, lock) => Ok((*record, lock)),
        SettledVm::Gone(_) | SettledVm::Unknown => Err(gone(id).into()),
    }
}

/// Finishes whatever an earlier command left undone.
pub fn settle(manager: &VmManager, id: &VmId, lock: FileLock) -> Result<SettledVm> {
    let Some(record) = manager.registry.read()?.vms.get(id).cloned() else {
        lock.remove()?;
        return Ok(SettledVm::Unknown);
    };
    let verdict = repair(&record.state, liveness_of(&record, &clock::boot_id()?)?);
    match verdict {
        RecordRepair::Keep => Ok(SettledVm::Here(Box::new(record), lock)),
        RecordRepair::Stop(error) => {
            let record = teardown::bring_down(manager, &record, error.map(str::to_owned))?;
            Ok(SettledVm::Here(Box::new(record), lock))
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
