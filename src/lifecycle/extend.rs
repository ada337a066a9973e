//! Giving a VM more time.
//!
//! Three clocks run against a VM: the registry's, by which it is used and reaped, the manifest's, which
//! takes over when the registry is lost, and the guest's own, by which it powers off. A VM must never end
//! before the time that the registry promises, so that one is moved last. Whoever is interrupted before
//! has promised nothing, and a guest that was told already costs its memory for longer if nobody reaps it.

use std::os::fd::AsFd;
use std::time::Duration;

use anyhow::{Context, Result};

use super::manager::{HELLO, VmManager};
use super::unexpired::acquire_unexpired;
use crate::backend::{StreamPurpose, hang_up};
use crate::host::clock;
use crate::host::wait::WaitLimit;
use crate::model::{Refusal, RefusalKind, TimeSpan, VmId, VmPhase, VmRecord};
use crate::registry::write_manifest;

/// Lets a VM live for `ttl` from now, or for as long as it would anyway.
///
/// Errors: `Usage` outside the limits, `Expired` when it is too late, and what keeps a started guest from
/// being told.
pub fn extend(manager: &VmManager, id: &VmId, ttl: TimeSpan) -> Result<VmRecord> {
    let limits = &manager.settings.profiles()?.limits;
    limits.ttl_seconds.check("ttl_seconds", "DURATION", ttl.seconds())?;
    let (record, _lock) = acquire_unexpired(manager, id)?;
    let now = clock::now()?;
    let mut extended = record.clone();
    if extended.extend(&now, ttl.seconds())? == 0 {
        return Ok(record);
    }
    if let VmPhase::Started { .. } = record.state {
        let left = Duration::from_secs_f64(extended.expiry.remaining(&now));
        tell(manager, &record, left).context("the VM was not given more time")?;
    }
    write_manifest(&manager.paths(id).manifest(), &extended.manifest)?;
    // The lock is ours, so this comes to the same.
    manager.change(id, |record| {
        record.extend(&now, ttl.seconds())?;
        Ok(record.clone())
    })
}

/// Has the guest's agent end the VM that much later from now.
fn tell(manager: &VmManager, record: &VmRecord, left: Duration) -> Result<()> {
    let id = record.id();
    let vmm = manager
        .process_of(record)?
        .ok_or_else(|| Refusal::new(RefusalKind::WrongState, format!("VM {id} has just ended")))?;
    let backend = manager.backend_of(&record.manifest)?;
    let mut wait = WaitLimit::within(HELLO).watching(vmm.as_fd());
    let mut session =
        manager.open_session(record, backend.as_ref(), StreamPurpose::Control, &mut wait)?;
    session.set_ttl(left, &mut wait)?;
    hang_up(session.is_clean(), session.into_channel());
    Ok(())
}
