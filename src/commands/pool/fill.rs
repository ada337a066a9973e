//! `mayfly pool fill`.

use anyhow::Result;

use crate::commands::AppContext;
use crate::commands::build_progress::{create_vm, with_build_progress};
use crate::commands::flags::machine::MachineFlags;
use crate::host::process;
use crate::host::signals::PendingSignals;
use crate::lifecycle::{
    self, CreateRequest, FillLock, PhaseTimings, PoolUse, StartCaller, StartOptions, StreamPurpose,
    VmManager,
};
use crate::model::{Refusal, VmRecord};
use crate::output::VmView;

/// The request for a VM that waits.
///
/// # Errors
/// `Usage` for published ports.
pub fn request(machine: MachineFlags) -> Result<CreateRequest> {
    let owner = Some(process::identify_self()?);
    let request = machine.into_request();
    if !request.network.publish.is_empty() {
        let message = "VMs with published ports cannot wait in the pool";
        return Err(Refusal::usage(message).hint("leave out --publish").into());
    }
    Ok(CreateRequest { owner, pool: PoolUse::Fill, ..request })
}

/// Fills the pool up to `count` VMs, and prints each.
pub fn serve(app: &AppContext, mut machine: MachineFlags, count: usize) -> Result<u8> {
    let app = &machine.provide_image(app)?;
    let (manager, request) = (app.open()?, request(machine)?);
    let mut signals = PendingSignals::block()?;
    let kind = with_build_progress(app, &mut signals, |progress| {
        lifecycle::kind_of(&manager, &request, progress)
    })?;
    let _lock = FillLock::acquire(&manager, &kind, &mut signals)?;
    let before = lifecycle::waiting(&manager, &kind)?;
    for number in before + 1..=count {
        app.printer.note_on_terminal(&format!("mayfly: starting VM {number} of {count}"));
        let record = fill_one(app, &manager, &request, &mut signals)?;
        app.printer.made(&VmView::from(&record), record.id().as_str())?;
    }
    if before >= count && !app.printer.style.json {
        app.printer.note(&format!("mayfly: {before} of this kind wait already"));
    }
    Ok(0)
}

/// Starts one more VM that waits.
pub fn fill_one(
    app: &AppContext,
    manager: &VmManager,
    request: &CreateRequest,
    signals: &mut PendingSignals,
) -> Result<VmRecord> {
    let mut timings = PhaseTimings::begin();
    let options = StartOptions { cold: false, purpose: StreamPurpose::Session };
    let mut remark = |remark| app.printer.remark(&remark);
    let mut caller = StartCaller { signals, timings: &mut timings, remark: &mut remark };
    let filled = lifecycle::fill(manager, options, &mut caller, |signals| {
        Ok(create_vm(app, manager, request, signals)?.into_record())
    })?;
    app.printer.timings(&timings);
    Ok(filled)
}
