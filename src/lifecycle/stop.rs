//! `stop`: asks the guest to shut down, then sends the VMM SIGTERM, then SIGKILL.

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use anyhow::Result;

use super::full_disk::go_on;
use super::manager::VmManager;
use super::network::report_on;
use super::recover::settle::acquire;
use super::recover::{processes, teardown};
use crate::backend::StreamPurpose;
use crate::host::wait::WaitLimit;
use crate::model::{VmId, VmPhase, VmRecord};
use crate::sys::process::{PidFd, Signal};

/// How long a VMM may take to end after SIGTERM.
const VMM_GRACE: Duration = Duration::from_secs(1);

/// Stops a VM and keeps its disk. Returns once the VMM is proven gone; a VM that is not running is
/// already stopped. The guest gets `grace` to end its processes and write its disk.
pub fn stop(manager: &VmManager, id: &VmId, grace: Duration) -> Result<VmRecord> {
    let (record, _lock) = acquire(manager, id)?;
    match record.state {
        VmPhase::Stopped { .. } => return report_on(manager, record),
        // A VM that never ran can be marked as stopped.
        VmPhase::Created => {}
        _ => {
            manager.change(id, |record| record.begin_stop())?;
            if let Some(vmm) = manager.process_of(&record)? {
                stop_running(manager, &record, &vmm, grace)?;
            }
        }
    }
    report_on(manager, teardown::bring_down(manager, &record, None)?)
}

fn stop_running(
    manager: &VmManager,
    record: &VmRecord,
    vmm: &PidFd,
    grace: Duration,
) -> Result<()> {
    let deadline = Instant::now() + grace;
    if let Some(why) = go_on(manager, record) {
        let name = record.manifest.display_name();
        (manager.say)(&format!("mayfly: VM {name} is stopped without its last writes: {why}"));
    } else {
        // The next step works even if the guest could not be asked.
        let asked = ask_guest(manager, record, vmm, grace, deadline);
        let left = deadline.saturating_duration_since(Instant::now());
        if asked.is_ok() && vmm.wait(left)? {
            return Ok(());
        }
    }
    if !record.manifest.is_stopped_by_owner() {
        vmm.signal(Signal::SIGTERM)?;
        if vmm.wait(VMM_GRACE)? {
            return Ok(());
        }
    }
    processes::kill(vmm)
}

fn ask_guest(
    manager: &VmManager,
    record: &VmRecord,
    vmm: &PidFd,
    grace: Duration,
    deadline: Instant,
) -> Result<()> {
    let mut wait = WaitLimit::until(deadline).watching(vmm.as_fd());
    let mut session = manager.connect(record, StreamPurpose::Control, &mut wait)?;
    // Half of the time is for the guest's processes, half for writing its disk and powering off.
    session.shutdown(grace / 2, &mut wait)
}
