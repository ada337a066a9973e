//! Finding and killing the processes of VMs, on record or not.
//!
//! A process is recognized by its mark, or if it is a VMM without one, by its root directory.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::time::Duration;

use anyhow::{Result, bail};

use crate::backend::all_traces;
use crate::host::directory;
use crate::host::process;
use crate::host::process_marks::{self, ProcessMarks};
use crate::lifecycle::manager::VmManager;
use crate::model::{ProcessId, VmId};
use crate::sys::process::{PidFd, Signal};

/// How long a killed process may take to end. The kernel may have to free gigabytes of memory.
const KILL_TIMEOUT: Duration = Duration::from_secs(10);

/// The running processes of one VM.
pub fn of(manager: &VmManager, id: &VmId) -> Result<Vec<ProcessId>> {
    let found = find(manager, std::slice::from_ref(id))?;
    Ok(found.into_iter().filter(|(_, of)| of == id).map(|(process, _)| process).collect())
}

/// The running processes of all VMs that this state directory has or had.
pub fn all(manager: &VmManager) -> Result<Vec<(ProcessId, VmId)>> {
    let names = directory::names(&manager.settings.directories.vms())?;
    let ids: Vec<VmId> = names.iter().filter_map(|name| name.parse().ok()).collect();
    find(manager, &ids)
}

/// The marked processes of any VM, and those in the jails of the VMs `jailed`.
fn find(manager: &VmManager, jailed: &[VmId]) -> Result<Vec<(ProcessId, VmId)>> {
    let mut marks = ProcessMarks { key: manager.registry.mark_key()?, roots: BTreeMap::new() };
    for paths in jailed.iter().map(|id| manager.paths(id)) {
        for root in all_traces().filter_map(|traces| traces.process_root(&paths)) {
            if let Ok(root) = root.symlink_metadata() {
                marks.roots.insert((root.dev(), root.ino()), paths.dir.display().to_string());
            }
        }
    }
    let id_of = |directory: &str| directory.rsplit('/').next()?.parse().ok();
    let found = process_marks::find(&marks, &manager.settings.directories.vms())?;
    Ok(found.into_iter().filter_map(|(process, of)| Some((process, id_of(&of)?))).collect())
}

/// Kills a process and waits until it is proven gone.
pub fn kill(process: &PidFd) -> Result<()> {
    process.signal(Signal::SIGKILL)?;
    if !process.wait(KILL_TIMEOUT)? {
        bail!("a process was killed but does not end; it may hang in the kernel");
    }
    Ok(())
}

/// Kills every process of a VM. A process may start another one during the search, so the search is
/// repeated until it finds none, at most ten times.
pub fn kill_all(manager: &VmManager, id: &VmId) -> Result<()> {
    for _ in 0..10 {
        let mut found = false;
        for process in of(manager, id)? {
            if let Some(process) = process::open(&process)? {
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
