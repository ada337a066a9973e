//! Work that may build an image: shown as it goes on, and ended by Ctrl-C without leftovers.

use anyhow::Result;

use super::App;
use crate::host::signals::Signals;
use crate::host::tool;
use crate::image::Progress;
use crate::output::BuildProgress;

/// Does `work` with progress on standard error. A signal that ended it becomes the error.
pub fn building<T>(
    app: &App,
    signals: &mut Signals,
    work: impl FnOnce(&mut dyn Progress) -> Result<T>,
) -> Result<T> {
    let result = work(&mut BuildProgress::new(app.printer, signals));
    if result.as_ref().is_err_and(|error| error.is::<tool::Interrupted>()) {
        signals.check()?;
    }
    result
}
