//! Ending a VM's processes, without asking anybody.

use std::time::Duration;

use anyhow::{Result, bail};

use super::census;
use super::manager::Manager;
use crate::host::process::PidFd;
use crate::host::{cgroup, directory};
use crate::model::{BackendKind, Manifest, VmId, VmRecord};

/// How long a killed process may take to go. Killing needs no consent, only for the kernel to free
/// what may be gigabytes of memory.
const DEATH: Duration = Duration::from_secs(10);

/// Kills a process and waits until it is proven gone.
pub fn kill(process: &PidFd) -> Result<()> {
    process.kill()?;
    if !process.wait(DEATH)? {
        bail!("the VMM was killed but does not end; it may hang in the kernel");
    }
    Ok(())
}

/// Ends whatever process of a VM is on record, and records the VM as stopped once that is proven
/// gone. The VM's lock is held.
pub fn bring_down(
    manager: &Manager,
    record: &VmRecord,
    last_error: Option<String>,
) -> Result<VmRecord> {
    if let Some(process) = manager.process_of(record)? {
        kill(&process)?;
    }
    clear(manager, &record.manifest)?;
    manager.change(record.id(), |record| {
        record.finish_stop(last_error)?;
        Ok(record.clone())
    })
}

/// Clears away what outlives a VMM and means nothing without it: processes, where no machine is around
/// a VM's commands, and a jail.
pub fn clear(manager: &Manager, manifest: &Manifest) -> Result<()> {
    match manifest.backend {
        BackendKind::Mock => {
            kill_all(manager, &manifest.vm_id)?;
            // The agent takes them away itself, unless it was killed.
            directory::remove(&manager.paths(&manifest.vm_id).secrets())
        }
        BackendKind::Firecracker => {
            let paths = manager.paths(&manifest.vm_id);
            cgroup::remove(manifest.vm_id.as_str())?;
            directory::remove(&paths.jail())?;
            directory::remove(&paths.vmm_home(false))
        }
        BackendKind::Qemu => Ok(()),
    }
}

/// Kills every process of a VM.
///
/// A process can start another while this looks, so it looks until it finds none, at most ten times.
pub fn kill_all(manager: &Manager, id: &VmId) -> Result<()> {
    for _ in 0..10 {
        let mut found = false;
        for process in census::of(manager, id)? {
            if let Some(process) = PidFd::open(&process)? {
                found = true;
                kill(&process)?;
            }
        }
        if !found {
            return Ok(());
        }
    }
    bail!("the processes of VM {id} start others faster than they can be killed")
}
