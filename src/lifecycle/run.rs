//! A VM that lives as long as its work: what `run` and `template build` do.

use anyhow::Result;

use super::guest::AgentConversation;
use super::manager::VmManager;
use super::removal::RemovalReport;
use super::remove::remove_if_there;
use super::start::{StartCaller, StartOptions, start};
use super::timings::PhaseTimings;
use crate::host::signals::PendingSignals;
use crate::model::record::reason;
use crate::model::{VmManifest, VmRecord};

/// Work that was done in a VM of its own.
#[derive(Debug)]
pub struct FinishedRun<T> {
    /// The VM as it was created.
    pub vm: VmManifest,
    pub work: T,
    /// The deletion that followed, unless the VM is kept.
    pub cleanup: Option<RemovalReport>,
}

/// Creates a VM, starts it and calls `work` with its agent. Then deletes the VM, also after an error,
/// unless its record says to keep it.
///
/// # Errors
/// Those of `create`, of [`start`] and of `work`; those of the deletion only if all went well until then.
pub fn run<T>(
    manager: &VmManager,
    options: StartOptions,
    caller: &mut StartCaller<'_>,
    create: impl FnOnce(&mut PendingSignals) -> Result<VmRecord>,
    work: impl FnOnce(&mut AgentConversation<'_>, &mut PendingSignals, &mut PhaseTimings) -> Result<T>,
) -> Result<FinishedRun<T>> {
    let record = create(caller.signals)?;
    caller.timings.end("create");
    let id = record.id();
    let work = start(manager, id, options, caller).and_then(|started| {
        let mut conversation = AgentConversation::of(manager, started);
        let done = work(&mut conversation, caller.signals, caller.timings)?;
        conversation.end();
        Ok(done)
    });
    let is_kept = record.manifest.keep;
    let cleanup = (!is_kept).then(|| remove_if_there(manager, id, reason::POST_EXEC));
    let work = work?;
    let cleanup = cleanup.transpose()?;
    if !is_kept {
        caller.timings.end("cleanup");
    }
    Ok(FinishedRun { vm: record.manifest, work, cleanup })
}
