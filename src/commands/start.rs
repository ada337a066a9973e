//! `mayfly start`.

use anyhow::Result;
use clap_complete::ArgValueCompleter;

use super::AppContext;
use super::completions::candidates;
use super::flags::selection::{SELECTION, SELECTION_FLAGS, SelectionFlags, VmSelection};
use super::flags::start::StartFlags;
use crate::host::clock;
use crate::host::signals::PendingSignals;
use crate::lifecycle::{self, PhaseTimings, StartCaller, StreamPurpose};
use crate::model::{VmRecord, VmRef};
use crate::output::VmView;

/// Start created or stopped VMs
///
/// Returns when the agent in the VM answers, so the VM is ready for 'exec'. If the VM does not boot, the end
/// of its console log is shown and it is left stopped; 'mayfly logs' shows the whole log.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  mayfly start ci              by name
  mayfly start 3f2a            by the beginning of its id
  mayfly start web db          several VMs
  mayfly start --label job=ci  all of them that are not running
  mayfly start --cold ci       boot it; 'mayfly logs' shows how
  mayfly start -v ci           with the time each phase took")]
pub struct Args {
    /// Name or id of a VM; the beginning of an id is enough
    #[arg(
        required_unless_present = SELECTION, conflicts_with_all = SELECTION_FLAGS, value_name = "VM",
        add = ArgValueCompleter::new(candidates::vms_not_running)
    )]
    vms: Vec<VmRef>,

    #[command(flatten)]
    all: SelectionFlags,

    #[command(flatten)]
    start: StartFlags,
}

pub fn serve(app: &AppContext, args: Args) -> Result<u8> {
    let (manager, now) = (app.open()?, clock::now()?);
    let mut signals = PendingSignals::block()?;
    let is_eligible = |vm: &VmRecord| !vm.state.is_up() && !vm.has_expired(&now);
    VmSelection::of(args.vms, args.all).each(app, &manager, "start", is_eligible, |id, _| {
        let id = id?;
        let mut timings = PhaseTimings::begin();
        let options = args.start.options(StreamPurpose::Control);
        let mut remark = |remark| app.printer.remark(&remark);
        let mut caller =
            StartCaller { signals: &mut signals, timings: &mut timings, remark: &mut remark };
        let started = lifecycle::start(&manager, &id, options, &mut caller)?;
        started.booted.hang_up();
        app.printer.timings(&timings);
        Ok(Some(VmView::from(&started.record)))
    })
}
