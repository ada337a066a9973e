//! The VMs that wait, and deleting them.

use anyhow::Result;

use crate::host::clock;
use crate::lifecycle::manager::VmManager;
use crate::lifecycle::network::report_on;
use crate::lifecycle::recover::settle::{SettledVm, settle};
use crate::lifecycle::removal::RemovalReport;
use crate::lifecycle::remove::remove_settled;
use crate::model::record::reason;
use crate::model::{VmId, VmPhase, VmRecord};

/// The VMs that wait and can still be taken, the next to end first.
pub fn list(manager: &VmManager) -> Result<Vec<VmRecord>> {
    let now = clock::now()?;
    let mut waiting = Vec::new();
    for record in manager.registry.read()?.vms.values() {
        let seen = manager.observe(record.clone(), &now)?;
        if matches!(seen.state, VmPhase::Pooled { .. }) && !seen.has_expired(&now) {
            waiting.push(report_on(manager, seen)?);
        }
    }
    waiting.sort_by(|a, b| a.expiry.remaining(&now).total_cmp(&b.expiry.remaining(&now)));
    Ok(waiting)
}

/// Deletes a VM that waits. `None` if it does not wait any more: it was taken, or is gone.
pub fn drain(manager: &VmManager, id: &VmId) -> Result<Option<RemovalReport>> {
    let Some(lock) = manager.registry.try_lock_vm(id)? else { return Ok(None) };
    match settle(manager, id, lock)? {
        SettledVm::Present(record, lock) if matches!(record.state, VmPhase::Pooled { .. }) => {
            remove_settled(manager, *record, lock, reason::EXPLICIT).map(Some)
        }
        SettledVm::Gone(removed) => Ok(Some(removed)),
        SettledVm::Present(..) | SettledVm::Unknown | SettledVm::Elsewhere(_) => Ok(None),
    }
}
