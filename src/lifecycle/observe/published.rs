//! `port`: the published ports of a running VM.

use anyhow::Result;

use crate::lifecycle::manager::VmManager;
use crate::lifecycle::network::report_on;
use crate::lifecycle::unexpired::observe_unexpired;
use crate::model::{GuestPort, PublishedPort, Refusal, RefusalKind, VmRecord, VmRef, listed};

/// The published ports of a running VM, or those that lead to one port of the guest.
///
/// # Errors
/// `NotFound` if there is no such VM or port; `Expired` if the VM has expired, and was deleted; `WrongState` if it is
/// not started.
pub fn published_ports(
    manager: &VmManager,
    vm: &VmRef,
    guest_port: Option<GuestPort>,
) -> Result<(VmRecord, Vec<PublishedPort>)> {
    let contents = manager.registry.read()?;
    let record = observe_unexpired(manager, contents.get(&contents.resolve(vm)?)?.clone())?;
    record.running()?;
    let record = report_on(manager, record)?;
    let all = record.published().to_vec();
    let Some(wanted) = guest_port else { return Ok((record, all)) };
    let found: Vec<PublishedPort> =
        all.iter().copied().filter(|port| GuestPort::of(port) == wanted).collect();
    if found.is_empty() {
        let name = record.manifest.display_name();
        let message = format!("VM {name} does not publish {wanted}");
        let there: Vec<String> = all.iter().map(|port| GuestPort::of(port).to_string()).collect();
        let hint = match there.as_slice() {
            [] => "it publishes no port; '--publish' of 'create' and 'run' does".to_owned(),
            there => format!("it publishes {}", listed(there.iter().map(String::as_str))),
        };
        return Err(Refusal::new(RefusalKind::NotFound, message).hint(hint).into());
    }
    Ok((record, found))
}
