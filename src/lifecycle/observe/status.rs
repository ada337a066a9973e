//! Looking at VMs.

use anyhow::Result;

use crate::host::clock;
use crate::lifecycle::manager::VmManager;
use crate::lifecycle::unexpired::observe_unexpired;
use crate::model::{StatusFilter, VmRecord, VmRef};

/// All VMs that fulfil every one of the conditions, as they are, oldest first. Writes nothing.
pub fn status_all(manager: &VmManager, filters: &[StatusFilter]) -> Result<Vec<VmRecord>> {
    let boot = clock::boot_id()?;
    let mut records: Vec<VmRecord> = manager
        .registry
        .read()?
        .vms
        .values()
        .map(|record| manager.observe(record.clone(), &boot))
        .collect::<Result<_>>()?;
    records.retain(|record| filters.iter().all(|filter| filter.admits(record)));
    records.sort_by(|a, b| a.manifest.created_at.total_cmp(&b.manifest.created_at));
    Ok(records)
}

/// One VM as it is. As in the reference, one that has expired is deleted and refused.
pub fn status(manager: &VmManager, vm: &VmRef) -> Result<VmRecord> {
    let contents = manager.registry.read()?;
    let id = contents.resolve(vm)?;
    observe_unexpired(manager, contents.get(&id)?.clone())
}
