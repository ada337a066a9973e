//! Ending a VM in good order: ask the guest, then the VMM, then nobody.

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use anyhow::Result;

use super::manager::VmManager;
use super::recover::settle::acquire;
use super::recover::{processes, teardown};
use crate::backend::StreamPurpose;
use crate::host::wait::WaitLimit;
use crate::model::{VmId, VmPhase, VmRecord};
use crate::sys::process::{PidFd, Signal};

/// How long a VMM may take to end after SIGTERM.
const VMM_GRACE: Duration = Duration::from_secs(1);

/// Ends a VM, keeping its disk. Returns once the VMM is proven gone; a VM that does not run is
/// already stopped. The guest gets `grace` to end its processes and write its disk.
pub fn stop(manager: &VmManager, id: &VmId, grace: Duration) -> Result<VmRecord> {
    let (record, _lock) = acquire(manager, id)?;
    match record.state {
        VmPhase::Stopped { .. } => return Ok(record),
        // As in the reference: what never ran can be marked as stopped.
        VmPhase::Created => {}
        _ => {
            manager.change(id, |record| record.begin_stop())?;
            if let Some(vmm) = manager.process_of(&record)? {
                end_in_order(manager, &record, &vmm, grace)?;
            }
        }
    }
    teardown::bring_down(manager, &record, None)
}

fn end_in_order(
    manager: &VmManager,
    record: &VmRecord,
    vmm: &PidFd,
    grace: Duration,
) -> Result<()> {
    let deadline = Instant::now() + grace;
    // Whatever goes wrong with asking, the next step needs no consent.
    let asked = ask(manager, record, vmm, grace, deadline);
    let left = deadline.saturating_duration_since(Instant::now());
    if asked.is_ok() && vmm.wait(left)? {
        return Ok(());
    }
    vmm.signal(Signal::SIGTERM)?;
    if vmm.wait(VMM_GRACE)? {
        return Ok(());
    }
    processes::kill(vmm)
}

fn ask(
    manager: &VmManager,
    record: &VmRecord,
    vmm: &PidFd,
    grace: Duration,
    deadline: Instant,
) -> Result<()> {
    let backend = manager.backend_of(&record.manifest)?;
    let mut wait = WaitLimit::until(deadline).watching(vmm.as_fd());
    let mut session =
        manager.open_session(record, backend.as_ref(), StreamPurpose::Control, &mut wait)?;
    // Half of it for the guest's processes, half for writing its disk and powering off.
    session.shutdown(grace / 2, &mut wait)
}
