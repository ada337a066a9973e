//! `extend`: giving a VM more time.
//!
//! Three clocks limit a VM: the registry's, by which it is used and reaped; the manifest's, which is
//! used when the registry is lost; and the guest's own, by which it powers off. A VM must not end
//! before the time in the registry, so the registry is changed last. If the command is interrupted
//! before that, the guest may run for longer than the registry says, until it is reaped.

use std::os::fd::AsFd;
use std::time::Duration;

use anyhow::{Context, Result};

use super::full_disk::refuse_waiting;
use super::manager::{AGENT_TIMEOUT, VmManager};
use super::network::report_on;
use super::unexpired::acquire_unexpired;
use crate::backend::StreamPurpose;
use crate::host::clock;
use crate::host::wait::WaitLimit;
use crate::model::{TimeSpan, VmId, VmPhase, VmRecord};
use crate::registry::write_manifest;

/// Sets a VM's expiry to `ttl` from now, unless it already had longer to live.
///
/// # Errors
/// `Usage` outside the limits, `Expired` if the VM has expired; whatever prevents the guest from
/// learning its new time.
pub fn extend(manager: &VmManager, id: &VmId, ttl: TimeSpan) -> Result<VmRecord> {
    let (settings, seconds) = (&manager.settings, ttl.seconds());
    let bounds = settings.profiles()?.limits.ttl_seconds;
    settings.check_limit("ttl_seconds", bounds, ("DURATION", seconds), TimeSpan::shown)?;
    let (record, _lock) = acquire_unexpired(manager, id)?;
    let now = clock::now()?;
    let mut extended = record.clone();
    if extended.extend(&now, ttl.seconds())? == 0 {
        return report_on(manager, record);
    }
    if let VmPhase::Started { .. } = record.state {
        let left = Duration::from_secs_f64(extended.expiry.remaining(&now));
        set_guest_ttl(manager, &record, left).context("the VM was not given more time")?;
    }
    write_manifest(&manager.paths(id).manifest(), &extended.manifest)?;
    // The VM is locked, so the result is the same.
    let extended = manager.change(id, |record| {
        record.extend(&now, ttl.seconds())?;
        Ok(record.clone())
    });
    report_on(manager, extended?)
}

/// Sets the time after which the guest's agent ends the VM.
fn set_guest_ttl(manager: &VmManager, record: &VmRecord, left: Duration) -> Result<()> {
    let vmm = manager.running_vmm(record)?;
    refuse_waiting(manager, record)?;
    let mut wait = WaitLimit::within(AGENT_TIMEOUT).watching(vmm.as_fd());
    let mut session = manager.connect(record, StreamPurpose::Control, &mut wait)?;
    session.set_ttl(left, &mut wait)?;
    session.hang_up();
    Ok(())
}
