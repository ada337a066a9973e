//! Doing one thing to several VMs, or whatever else is named.

use anyhow::Result;

use super::AppContext;
use crate::host::signals::SignalInterrupt;
use crate::output::ErrorReport;

/// Calls `act` for every one, also after one has failed: what can be done is done. Errors are printed
/// as they occur; the exit code is the first one's. A signal ends all of it.
pub fn each<T>(
    app: &AppContext,
    named: impl IntoIterator<Item = T>,
    mut act: impl FnMut(T) -> Result<()>,
) -> Result<u8> {
    let mut code = 0;
    for one in named {
        if let Err(error) = act(one) {
            if error.is::<SignalInterrupt>() {
                return Err(error);
            }
            let failure = ErrorReport::of(&error);
            app.printer.failure(&failure);
            if code == 0 {
                code = failure.exit_code;
            }
        }
    }
    Ok(code)
}
