//! Doing the same to everything that is named on the command line.

use anyhow::Result;
use serde::Serialize;

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

/// How `--json` shows what was done to several things.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DoneForm {
    /// An object on a line for each, as it is done: for things that are named.
    Lines,
    /// One array, even if there is none: for things that are not.
    Array,
}

/// As [`each`] for things with their names, and prints what `act` has done to each, if anything.
pub fn each_done<'a, T, V: Serialize>(
    app: &AppContext,
    form: DoneForm,
    items: impl IntoIterator<Item = (&'a str, T)>,
    mut act: impl FnMut(T, &str) -> Result<Option<V>>,
) -> Result<u8> {
    let in_array = app.printer.style.json && form == DoneForm::Array;
    let (mut done, mut lines) = (Vec::new(), Vec::new());
    let code = each(app, items, |(name, item)| match act(item, name)? {
        Some(view) if in_array => {
            done.push(view);
            lines.push(format!("{name}: it is done"));
            Ok(())
        }
        Some(view) => app.printer.done(&view, name),
        None => Ok(()),
    });
    if in_array {
        // Also what was done before a signal.
        app.printer.results(&done, &lines)?;
    }
    code
}
