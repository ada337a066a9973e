//! `status`: the current state of VMs.

use anyhow::Result;

use crate::host::clock;
use crate::lifecycle::full_disk::{go_on, is_room_scarce, why_waiting};
use crate::lifecycle::liveness::liveness_of_all;
use crate::lifecycle::manager::VmManager;
use crate::lifecycle::network::report_on;
use crate::lifecycle::unexpired::observe_unexpired;
use crate::model::{StatusFilter, VmRecord, VmRef, reconcile};

/// The VMs of users that match every filter, oldest first. Asks each VM whether it waits only if there is little room.
pub fn status_all(manager: &VmManager, filters: &[StatusFilter]) -> Result<Vec<VmRecord>> {
    let mut records = status_everything(manager, filters)?;
    records.retain(|record| !record.manifest.in_pool);
    Ok(records)
}

/// The same, with the VMs of the pool.
pub fn status_everything(manager: &VmManager, filters: &[StatusFilter]) -> Result<Vec<VmRecord>> {
    let now = clock::now()?;
    let records: Vec<VmRecord> = manager.registry.take()?.vms.into_values().collect();
    let processes = liveness_of_all(&records, &now)?;
    let mut records = records
        .into_iter()
        .zip(processes)
        .map(|(record, process)| report_on(manager, reconcile::observe(record, process)))
        .collect::<Result<Vec<_>>>()?;
    records.retain(|record| filters.iter().all(|filter| filter.matches(record)));
    if is_room_scarce(manager) {
        records.iter_mut().for_each(|record| record.waits = why_waiting(manager, record));
    }
    records.sort_by(|a, b| a.manifest.created_at.total_cmp(&b.manifest.created_at));
    Ok(records)
}

/// The current state of one VM.
///
/// # Errors
/// `NotFound` if there is no such VM; `Expired` if it has expired, and was deleted.
pub fn status(manager: &VmManager, vm: &VmRef) -> Result<VmRecord> {
    let contents = manager.registry.read()?;
    let id = contents.resolve(vm)?;
    let mut record = observe_unexpired(manager, contents.get(&id)?.clone())?;
    record.waits = go_on(manager, &record);
    report_on(manager, record)
}
