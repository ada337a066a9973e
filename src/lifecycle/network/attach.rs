//! Putting a network helper beside a VMM: of a VM that starts, or of one that has lost its helper.

use std::os::unix::net::UnixStream;

use anyhow::{Context, Result};

use super::helper::NetworkHelper;
use super::ports::BoundPorts;
use crate::backend::Backend;
use crate::host::launcher::ReleasedChild;
use crate::lifecycle::manager::VmManager;
use crate::model::VmRecord;
use crate::registry::write_instance;
use crate::sys::process::PidFd;

/// Starts the helper of a VM whose lock is held, and records it before it serves. `line` leads to the guest.
///
/// # Errors
/// The host's, or the VM is not starting or started.
pub fn attach(
    manager: &VmManager,
    record: &VmRecord,
    backend: &dyn Backend,
    line: UnixStream,
    ports: &BoundPorts,
) -> Result<(PidFd, ReleasedChild)> {
    let link = backend.network_link().context("the backend has no network")?;
    let helper = NetworkHelper::spawn(manager, &record.manifest, link, line, ports)?;
    let instance = manager.change_starting(record.id(), |record| {
        record.networked(helper.record.clone())?;
        Ok(record.state.instance().cloned())
    })?;
    if let Some(instance) = instance {
        write_instance(&manager.paths(record.id()).instance(), &instance)?;
    }
    helper.release()
}
