//! VMs that have not expired. One that has is deleted and refused.

use anyhow::Result;

use super::manager::VmManager;
use super::recover::settle::acquire;
use super::remove::{remove, remove_settled};
use crate::host::clock;
use crate::host::lock::FileLock;
use crate::model::record::reason;
use crate::model::{Refusal, RefusalKind, VmId, VmRecord};

/// Waits for a VM's lock and settles the VM.
///
/// # Errors
/// `NotFound` if there is no such VM, `Expired` if it has expired and was deleted.
pub fn acquire_unexpired(manager: &VmManager, id: &VmId) -> Result<(VmRecord, FileLock)> {
    let (record, lock) = acquire(manager, id)?;
    if record.has_expired(&clock::now()?) {
        let refusal = expired(&record);
        remove_settled(manager, record, lock, reason::EXPIRED)?;
        return Err(refusal.into());
    }
    Ok((record, lock))
}

/// A VM as it is, without its lock: its record, compared with its process.
///
/// # Errors
/// `Expired` if it has expired and was deleted.
pub fn observe_unexpired(manager: &VmManager, record: VmRecord) -> Result<VmRecord> {
    let now = clock::now()?;
    if record.has_expired(&now) {
        remove(manager, record.id(), reason::EXPIRED)?;
        return Err(expired(&record).into());
    }
    manager.observe(record, &now)
}

fn expired(record: &VmRecord) -> Refusal {
    let name = record.manifest.display_name();
    Refusal::new(RefusalKind::Expired, format!("VM {name} expired and was automatically deleted"))
        .hint("create another; '--ttl' sets how long it may live")
}
