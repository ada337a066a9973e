//! Doing one thing to several VMs.

use anyhow::Result;

use super::App;
use crate::host::signals::Interrupted;
use crate::model::VmRef;
use crate::output::Failure;

/// Calls `act` for every VM, also after one has failed: what can be done is done. Errors are printed
/// as they occur; the exit code is the first one's. A signal ends all of it.
pub fn each(app: &App, vms: &[VmRef], mut act: impl FnMut(&VmRef) -> Result<()>) -> Result<u8> {
    let mut code = 0;
    for vm in vms {
        if let Err(error) = act(vm) {
            if error.is::<Interrupted>() {
                return Err(error);
            }
            let failure = Failure::of(&error);
            app.printer.failure(&failure);
            if code == 0 {
                code = failure.exit_code;
            }
        }
    }
    Ok(code)
}
