//! A VM that lives as long as its work: what `run` and `template build` do.

use anyhow::Result;

use super::create::{NewVm, PoolUse};
use super::guest::AgentConversation;
use super::manager::VmManager;
use super::removal::RemovalReport;
use super::remove::remove_if_there;
use super::start::{StartCaller, StartOptions, StartedVm, greet, start};
use super::timings::PhaseTimings;
use crate::host::signals::PendingSignals;
use crate::model::record::reason;
use crate::model::{VmManifest, VmRecord};

/// Work that was done in a VM of its own.
#[derive(Debug)]
pub struct FinishedRun<T> {
    /// The VM as it was when it was started.
    pub vm: VmRecord,
    pub work: T,
    /// The deletion that followed, unless the VM is kept.
    pub cleanup: Option<RemovalReport>,
}

/// Creates a VM, or takes one from the pool, and calls `work` with its agent. Then deletes the VM, also after an error,
/// unless its record says to keep it. `create` is called again, and must take none, if the taken one does not work.
///
/// # Errors
/// Those of `create`, of [`start`] and of `work`; those of the deletion only if all went well until then.
pub fn run<T>(
    manager: &VmManager,
    options: StartOptions,
    caller: &mut StartCaller<'_>,
    create: impl FnMut(&mut PendingSignals, PoolUse) -> Result<NewVm>,
    work: impl FnOnce(&mut AgentConversation<'_>, &mut PendingSignals, &mut PhaseTimings) -> Result<T>,
) -> Result<FinishedRun<T>> {
    let (record, started) = obtain(manager, options, caller, create)?;
    let id = record.vm_id.clone();
    let done = started.and_then(|started| {
        let record = started.record.clone();
        let mut conversation = AgentConversation::of(manager, started);
        match work(&mut conversation, caller.signals, caller.timings) {
            Ok(done) => {
                conversation.end();
                Ok((record, done))
            }
            Err(error) => Err(conversation.explain(error)),
        }
    });
    let is_kept = record.keep;
    let cleanup = (!is_kept).then(|| remove_if_there(manager, &id, reason::POST_EXEC));
    let (vm, work) = done?;
    let cleanup = cleanup.transpose()?;
    if !is_kept {
        caller.timings.end("cleanup");
    }
    Ok(FinishedRun { vm, work, cleanup })
}

/// Creates a VM, or takes one from the pool, and starts it. The VM is deleted if it does not start.
///
/// # Errors
/// Those of `create` and of [`start`].
pub fn create_started(
    manager: &VmManager,
    options: StartOptions,
    caller: &mut StartCaller<'_>,
    create: impl FnMut(&mut PendingSignals, PoolUse) -> Result<NewVm>,
) -> Result<VmRecord> {
    let (record, started) = obtain(manager, options, caller, create)?;
    match started {
        Ok(started) => {
            let record = started.record;
            started.booted.hang_up();
            Ok(record)
        }
        Err(error) => {
            remove_if_there(manager, &record.vm_id, reason::ABANDONED)?;
            Err(error)
        }
    }
}

/// A VM, and its connection, or why it did not start.
fn obtain(
    manager: &VmManager,
    options: StartOptions,
    caller: &mut StartCaller<'_>,
    mut create: impl FnMut(&mut PendingSignals, PoolUse) -> Result<NewVm>,
) -> Result<(VmManifest, Result<StartedVm>)> {
    let pool = if options.cold { PoolUse::Nothing } else { PoolUse::Take };
    let mut new = create(caller.signals, pool)?;
    caller.timings.end("create");
    if let NewVm::Taken(taken) = new {
        if let Some(started) = greet(manager, taken, options.purpose, caller)? {
            return Ok((started.record.manifest.clone(), Ok(started)));
        }
        new = create(caller.signals, PoolUse::Nothing)?;
        caller.timings.end("create");
    }
    let record = new.record();
    let started = start(manager, record.id(), options, caller);
    Ok((record.manifest.clone(), started))
}
