//! Taking a VM from the pool.

use anyhow::Result;

use crate::host::lock::FileLock;
use crate::host::{clock, process};
use crate::lifecycle::manager::VmManager;
use crate::lifecycle::recover::settle::{SettledVm, settle};
use crate::model::{PoolKind, Refusal, VmId, VmManifest, VmPhase, VmRecord};
use crate::registry::{RegistryChange, RegistryContents};

/// A VM that was taken and has not been told so. Its record says `starting`.
#[derive(Debug)]
pub struct TakenVm {
    pub record: VmRecord,
    pub lock: FileLock,
}

/// Whether any VM waits. This is quick.
pub fn is_any_waiting(manager: &VmManager) -> Result<bool> {
    let contents = manager.registry.read()?;
    Ok(contents.vms.values().any(|vm| matches!(vm.state, VmPhase::Pooled { .. })))
}

/// Takes the VM of this kind that ends first and makes it what `wanted` describes. `None` if there is none. Waits for
/// nobody: a VM that is locked is taken by another command.
///
/// # Errors
/// That of `check`, which decides in the same transaction whether there may be one more VM.
pub fn take(
    manager: &VmManager,
    kind: &PoolKind,
    wanted: &VmManifest,
    check: impl Fn(&RegistryContents) -> Result<(), Refusal>,
) -> Result<Option<TakenVm>> {
    let (contents, now) = (manager.registry.read()?, clock::now()?);
    let mut fitting: Vec<&VmRecord> =
        contents.vms.values().filter(|record| kind.fits(record, &now)).collect();
    fitting.sort_by(|a, b| a.expiry.expires_boottime.total_cmp(&b.expiry.expires_boottime));
    for record in fitting {
        if let Some(taken) = take_one(manager, record.id(), kind, wanted, &check)? {
            return Ok(Some(taken));
        }
    }
    Ok(None)
}

fn take_one(
    manager: &VmManager,
    id: &VmId,
    kind: &PoolKind,
    wanted: &VmManifest,
    check: impl Fn(&RegistryContents) -> Result<(), Refusal>,
) -> Result<Option<TakenVm>> {
    let Some(lock) = manager.registry.try_lock_vm(id)? else { return Ok(None) };
    // This deletes one whose VMM is gone.
    let SettledVm::Present(_, lock) = settle(manager, id, lock)? else { return Ok(None) };
    let me = process::identify_self()?;
    let taken = manager.registry.update(|contents| {
        let now = clock::now()?;
        if !contents.vms.get(id).is_some_and(|record| kind.fits(record, &now)) {
            return Ok((None, RegistryChange::Nothing));
        }
        check(contents)?;
        let record = contents.get_mut(id)?;
        record.take(wanted, &now)?;
        record.command = Some(me);
        Ok((Some(record.clone()), RegistryChange::OfThisBoot))
    })?;
    Ok(taken.map(|record| TakenVm { record, lock }))
}
