//! Doing the same to everything that is named on the command line.

use anyhow::Result;

use super::AppContext;
use crate::host::signals::SignalInterrupt;
use crate::output::ErrorReport;

/// Calls `act` for each item, even after one has failed. Errors are printed as they occur; the exit code
/// is that of the first.
///
/// # Errors
/// [`SignalInterrupt`], which stops the loop.
pub fn each<T>(
    app: &AppContext,
    items: impl IntoIterator<Item = T>,
    mut act: impl FnMut(T) -> Result<()>,
) -> Result<u8> {
    let mut code = 0;
    for item in items {
        if let Err(error) = act(item) {
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
