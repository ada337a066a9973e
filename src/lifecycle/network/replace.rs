//! Replacing the network helper of a running VM that has ended by itself or was killed.

use anyhow::Result;

use super::attach::attach;
use super::ports::BoundPorts;
use crate::backend::BackendVm;
use crate::host::launcher::ReleasedChild;
use crate::host::process;
use crate::host::signals::SignalInterrupt;
use crate::host::wait::WaitLimit;
use crate::lifecycle::manager::VmManager;
use crate::lifecycle::recover::settle::acquire;
use crate::model::{ProcessId, Refusal, VmPhase, VmRecord};

/// Whether a started VM should have a network helper and has none.
pub fn is_lost(record: &VmRecord) -> Result<bool> {
    let VmPhase::Started { instance } = &record.state else { return Ok(false) };
    Ok(match &instance.network {
        Some(network) => !may_live(&network.process)?,
        None => !record.manifest.network.is_none(),
    })
}

/// Whether a helper on record lives, or cannot be seen.
pub fn may_live(helper: &ProcessId) -> Result<bool> {
    Ok(process::open(helper)?.is_some() || process::is_hidden(helper)?)
}

/// Starts another helper for a VM that has lost its own. The VM's lock must not be held. A command that needs no
/// network must not fail for one, so what prevents it is only said.
///
/// # Errors
/// Those of [`acquire`], `WrongState` if the VM has ended, or a signal.
pub fn replace_lost(
    manager: &VmManager,
    record: &VmRecord,
    wait: &mut WaitLimit<'_>,
) -> Result<Option<ReleasedChild>> {
    if !is_lost(record)? {
        return Ok(None);
    }
    let (record, _lock) = acquire(manager, record.id())?;
    record.running()?;
    // Another command may have been here first.
    if !is_lost(&record)? {
        return Ok(None);
    }
    let name = record.manifest.display_name();
    match replace(manager, &record, wait) {
        Ok(child) => Ok(Some(child)),
        Err(error) if error.is::<SignalInterrupt>() => Err(error),
        Err(error) => {
            let why = Refusal::lines(&error.context("its helper cannot be started again"));
            (manager.say)(&format!("mayfly: VM {name} has lost its network: {}", why.join("; ")));
            Ok(None)
        }
    }
}

fn replace(
    manager: &VmManager,
    record: &VmRecord,
    wait: &mut WaitLimit<'_>,
) -> Result<ReleasedChild> {
    let name = record.manifest.display_name();
    let (ports, refused) = BoundPorts::bind_free(record.published());
    for refusal in refused {
        (manager.say)(&format!(
            "mayfly: VM {name} has a new network helper, but {}; 'mayfly stop {name}', then 'mayfly start {name}' \
             tries again",
            refusal.message
        ));
    }
    let backend = manager.backend_of(&record.manifest)?;
    let paths = manager.paths(record.id());
    let line = backend.dial_network(BackendVm::new(&record.manifest, &paths, None), wait)?;
    let (_, child) = attach(manager, record, backend.as_ref(), line, &ports)?;
    Ok(child)
}
