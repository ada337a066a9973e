//! Showing and interrupting work that may build an image.

use anyhow::Result;

use super::AppContext;
use crate::host::signals::PendingSignals;
use crate::host::tool;
use crate::image::ProgressSink;
use crate::lifecycle::{CreateRequest, NewVm, VmManager, create};
use crate::output::BuildProgress;

/// Does `work` and shows its progress on standard error.
///
/// # Errors
/// Those of `work`; [`SignalInterrupt`](crate::host::signals::SignalInterrupt) if a signal cancelled it.
pub fn with_build_progress<T>(
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

/// Creates a VM, or takes one from the pool. Builds its image if it is missing.
pub fn create_vm(
    app: &AppContext,
    manager: &VmManager,
    request: &CreateRequest,
    signals: &mut PendingSignals,
) -> Result<NewVm> {
    with_build_progress(app, signals, |progress| create(manager, request, progress))
}
