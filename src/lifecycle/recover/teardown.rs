//! The last steps of stopping and deleting a VM: killing its processes and deleting its files, without
//! asking the guest.

use anyhow::Result;

use super::processes;
use crate::backend::traces;
use crate::host::lock::FileLock;
use crate::host::{atomic_file, directory, process};
use crate::lifecycle::manager::VmManager;
use crate::lifecycle::removal::{RemovalReport, RemovedThing};
use crate::model::{VmManifest, VmPhase, VmRecord};
use crate::registry::RegistryChange;

/// Kills the VM's process on record, and records the VM as stopped once the process is proven gone. The
/// VM's lock is held.
pub fn bring_down(
    manager: &VmManager,
    record: &VmRecord,
    last_error: Option<String>,
) -> Result<VmRecord> {
    end_processes(record)?;
    clear(manager, &record.manifest)?;
    // A start that was killed while it copied the disk left this file.
    atomic_file::sweep(&manager.paths(record.id()).disk(), false)?;
    manager.change(record.id(), |record| {
        record.finish_stop(last_error)?;
        Ok(record.clone())
    })
}

/// Kills the processes on record. The network helper would end by itself, but not at once.
pub fn end_processes(record: &VmRecord) -> Result<()> {
    let Some(instance) = record.state.instance() else { return Ok(()) };
    for process in instance.processes() {
        if let Some(process) = process::open(process)? {
            processes::kill(&process)?;
        }
    }
    Ok(())
}

/// Deletes what outlives a VMM and has no use without it.
pub fn clear(manager: &VmManager, manifest: &VmManifest) -> Result<()> {
    let (id, traces) = (&manifest.vm_id, traces(manifest.backend));
    if traces.has_host_processes() {
        processes::kill_all(manager, id)?;
    }
    let instance = manager.paths(id).instance();
    // A start that was killed while it wrote the file left a part of it.
    atomic_file::sweep(&instance, false)?;
    atomic_file::remove_if_there(&instance)?;
    traces.clear(id, &manager.paths(id))
}

/// Deletes a VM whose record says that it is being removed. May be repeated from the start.
pub fn finish_removal(
    manager: &VmManager,
    record: &VmRecord,
    lock: FileLock,
) -> Result<RemovalReport> {
    let id = record.id();
    end_processes(record)?;
    clear(manager, &record.manifest)?;
    let paths = manager.paths(id);
    directory::remove(&paths.run)?;
    directory::remove_if_empty(&manager.settings.directories.run);
    directory::remove(&paths.dir)?;
    // The record is deleted last, so that a crash before this is found.
    let made = RegistryChange::to(&record.manifest);
    manager.registry.update(|contents| Ok((contents.vms.remove(id), made)))?;
    lock.remove()?;
    let reason = match &record.state {
        VmPhase::Removing { reason, .. } => reason.clone(),
        _ => String::new(),
    };
    Ok(RemovalReport { what: RemovedThing::Vm(id.clone()), deleted: true, reason })
}
