//! `rename`: giving a VM another name.

use anyhow::Result;

use super::manager::VmManager;
use super::network::report_on;
use super::unexpired::acquire_unexpired;
use crate::model::{VmId, VmName, VmRecord};
use crate::registry::{RegistryChange, write_manifest};

/// Renames a VM, or names one that has no name. A running guest keeps its host name until the next start.
///
/// # Errors
/// `NameTaken` if another VM has the name, `Expired` if the VM has expired.
pub fn rename(manager: &VmManager, id: &VmId, name: &VmName) -> Result<VmRecord> {
    let (_, _lock) = acquire_unexpired(manager, id)?;
    let manifest = manager.paths(id).manifest();
    let mut is_written = false;
    let renamed = manager.registry.update(|contents| {
        contents.check_name(name, Some(id))?;
        let record = contents.get_mut(id)?;
        record.rename(name.clone())?;
        is_written = true;
        // Written while the registry is locked, so that no other VM can get the name in between.
        write_manifest(&manifest, &record.manifest)?;
        Ok((record.clone(), RegistryChange::Made))
    });
    if renamed.is_err()
        && is_written
        && let Ok(contents) = manager.registry.read()
        && let Ok(record) = contents.get(id)
    {
        // Another VM may get the name next. If a kill prevents this, `reap --rebuild` resolves the conflict.
        let _ = write_manifest(&manifest, &record.manifest);
    }
    report_on(manager, renamed?)
}
