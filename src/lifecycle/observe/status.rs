//! Looking at VMs.

use anyhow::Result;

use crate::host::clock;
use crate::lifecycle::manager::{VmManager, expired, this_boot};
use crate::lifecycle::remove::remove;
use crate::model::record::reason;
use crate::model::{StatusFilter, VmRecord, VmRef};

/// All VMs that fulfil every one of the conditions, as they are, oldest first. Writes nothing.
pub fn status_all(manager: &VmManager, filters: &[StatusFilter]) -> Result<Vec<VmRecord>> {
    let boot = this_boot()?;
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
    let record = contents.get(&id)?.clone();
    if record.has_expired(&clock::now()?) {
        remove(manager, &id, reason::EXPIRED)?;
        return Err(expired(&id).into());
    }
    manager.observe(record, &this_boot()?)
}
