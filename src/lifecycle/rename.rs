//! Giving a VM another name.

use anyhow::Result;

use super::manager::VmManager;
use super::unexpired::acquire_unexpired;
use crate::model::{VmId, VmName, VmRecord};
use crate::registry::{RegistryChange, write_manifest};

/// Names a VM, whether it had a name or not. A guest that runs keeps its host name until the next start.
///
/// Errors: `NameTaken` when another VM has it, `Expired` when its time is up.
pub fn rename(manager: &VmManager, id: &VmId, name: &VmName) -> Result<VmRecord> {
    let (_, _lock) = acquire_unexpired(manager, id)?;
    let manifest = manager.paths(id).manifest();
    let mut is_written = false;
    let renamed = manager.registry.update(|contents| {
        contents.check_name(name, Some(id))?;
        let record = contents.get_mut(id)?;
        record.rename(name.clone())?;
        is_written = true;
        // With the registry still locked, so that no other VM can get the name in between.
        write_manifest(&manifest, &record.manifest)?;
        Ok((record.clone(), RegistryChange::Made))
    });
    if renamed.is_err()
        && is_written
        && let Ok(contents) = manager.registry.read()
        && let Ok(record) = contents.get(id)
    {
        // The name may be another VM's next. What a kill leaves here, a rebuild sorts out.
        let _ = write_manifest(&manifest, &record.manifest);
    }
    renamed
}
