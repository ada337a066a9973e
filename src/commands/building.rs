//! Work that may build an image.

use anyhow::Result;

use super::AppContext;
use crate::host::signals::PendingSignals;
use crate::host::tool;
use crate::image::ProgressSink;
use crate::lifecycle::{CreateRequest, VmManager, create};
use crate::model::VmRecord;
use crate::output::BuildProgress;

/// Does `work` and shows its progress on standard error.
///
/// # Errors
/// Those of `work`; [`SignalInterrupt`](crate::host::signals::SignalInterrupt) if a signal cancelled it.
pub fn building<T>(
    app: &AppContext,
    signals: &mut PendingSignals,
    work: impl FnOnce(&mut dyn ProgressSink) -> Result<T>,
) -> Result<T> {
    let result = work(&mut BuildProgress::new(app.printer, signals));
    if result.as_ref().is_err_and(|error| error.is::<tool::ToolInterrupted>()) {
        signals.check()?;
    }
    result
}

/// The creation of a VM, which may build its image.
pub fn creating<'a>(
    app: &'a AppContext,
    manager: &'a VmManager,
    request: &'a CreateRequest,
) -> impl FnOnce(&mut PendingSignals) -> Result<VmRecord> + 'a {
    move |signals| building(app, signals, |progress| create(manager, request, progress))
}
