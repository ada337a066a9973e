//! Finding and killing the processes of VMs, on record or not.
//!
//! A process is recognized by its VM's directory in its environment. Where a backend's VMM has no
//! environment, it is recognized by its root directory, which it cannot leave.

use std::os::unix::fs::MetadataExt;
use std::time::Duration;

use anyhow::{Result, bail};

use crate::backend::all_traces;
use crate::host::directory;
use crate::host::process::{self, ProcessMarks};
use crate::lifecycle::manager::VmManager;
use crate::model::{ProcessId, VmId};
use crate::sys::process::{PidFd, Signal};

/// How long a killed process may take to end. The kernel may have to free gigabytes of memory.
const KILL_TIMEOUT: Duration = Duration::from_secs(10);

/// The running processes of one VM.
pub fn of(manager: &VmManager, id: &VmId) -> Result<Vec<ProcessId>> {
    let mut marks = ProcessMarks::of(manager.mark(id));
    add_roots(manager, id, &mut marks);
    Ok(process::find(&marks)?.into_iter().map(|(process, _)| process).collect())
}

/// The running processes of all VMs that this state directory has or had.
pub fn all(manager: &VmManager) -> Result<Vec<(ProcessId, VmId)>> {
    let vms = manager.settings.directories.vms();
    let mut marks = ProcessMarks::below(&vms);
    for id in directory::names(&vms)?.iter().filter_map(|name| name.parse().ok()) {
        add_roots(manager, &id, &mut marks);
    }
    let id_of = |mark: &str| mark.rsplit('/').next()?.parse().ok();
    let found = process::find(&marks)?;
    Ok(found.into_iter().filter_map(|(process, mark)| Some((process, id_of(&mark)?))).collect())
}

fn add_roots(manager: &VmManager, id: &VmId, marks: &mut ProcessMarks) {
    let paths = manager.paths(id);
    for root in all_traces().filter_map(|traces| traces.process_root(&paths)) {
        if let Ok(root) = root.symlink_metadata() {
            marks.roots.insert((root.dev(), root.ino()), manager.mark(id));
        }
    }
}

/// Kills a process and waits until it is proven gone.
pub fn kill(process: &PidFd) -> Result<()> {
    process.signal(Signal::SIGKILL)?;
    if !process.wait(KILL_TIMEOUT)? {
        bail!("the VMM was killed but does not end; it may hang in the kernel");
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
