//! Giving a VM that was taken from the pool the identity that a start gives a new one.

use std::os::fd::AsFd;
use std::time::Duration;

use anyhow::{Context, Result};

use super::boot::BootedVm;
use super::caller::{StartCaller, StartRemark};
use super::{StartedVm, identity};
use crate::backend::StreamPurpose;
use crate::host::signals::SignalInterrupt;
use crate::host::wait::WaitLimit;
use crate::host::{atomic_file, process};
use crate::lifecycle::guest::defaults;
use crate::lifecycle::manager::VmManager;
use crate::lifecycle::network::report_on;
use crate::lifecycle::pool::take::TakenVm;
use crate::lifecycle::remove::remove_if_there;
use crate::model::record::reason;
use crate::model::{Isolation, Refusal, RefusalKind, VmRecord};
use crate::registry::write_manifest;

/// How long its agent may take to answer. If it takes longer, a new VM is sooner there.
const PATIENCE: Duration = Duration::from_secs(5);

/// Finishes the start of a VM from the pool. `None` if it does not answer; it is deleted then, and so it is after an
/// error.
///
/// # Errors
/// A signal, or the VM cannot be deleted.
pub fn greet(
    manager: &VmManager,
    taken: TakenVm,
    purpose: StreamPurpose,
    caller: &mut StartCaller<'_>,
) -> Result<Option<StartedVm>> {
    let TakenVm { record, lock } = taken;
    let greeted = identify(manager, &record, purpose, caller);
    drop(lock);
    match greeted {
        Ok(started) => Ok(Some(started)),
        Err(error) => {
            remove_if_there(manager, record.id(), reason::ABANDONED)?;
            if error.is::<SignalInterrupt>() { Err(error) } else { Ok(None) }
        }
    }
}

fn identify(
    manager: &VmManager,
    record: &VmRecord,
    purpose: StreamPurpose,
    caller: &mut StartCaller<'_>,
) -> Result<StartedVm> {
    let gone = || Refusal::new(RefusalKind::WrongState, "it has just ended");
    let vmm = manager.process_of(record)?.ok_or_else(gone)?;
    let helper = record.state.instance().and_then(|instance| instance.network.as_ref());
    if let Some(helper) = helper {
        process::open(&helper.process)?.ok_or_else(gone)?;
    }
    let paths = manager.paths(record.id());
    let mut wait = WaitLimit::within(PATIENCE).watching(vmm.as_fd()).interruptible(caller.signals);
    let mut session = manager.connect(record, purpose, &mut wait)?;
    session.setup(&identity::of(record, true)?, &mut wait)?;

    let profile = manager.settings.profile(record.manifest.profile.as_str())?;
    atomic_file::remove_if_there(&paths.command())?;
    defaults::save(manager, record.id(), &profile.command)?;
    // Until here, the manifest is that of a VM whose owner, who filled the pool, is gone. A registry that is rebuilt
    // from it contains no VM with half an identity.
    write_manifest(&paths.manifest(), &record.manifest)?;
    let finish = |record: &mut VmRecord| {
        record.finish_start()?;
        Ok(record.clone())
    };
    let record = if record.manifest.owner.is_some() {
        manager.change_starting(record.id(), finish)?
    } else {
        // A later start boots this disk, also after a power failure.
        if paths.disk().exists() {
            atomic_file::sync(&paths.disk()).context("cannot write the VM's disk")?;
        }
        manager.change(record.id(), finish)?
    };
    if record.manifest.isolation() == Isolation::None {
        (caller.remark)(StartRemark::NotIsolated);
    }
    caller.timings.end("pool");
    Ok(StartedVm { record: report_on(manager, record)?, booted: BootedVm::of(vmm, session) })
}
