//! `mayfly stop`.

use anyhow::Result;
use clap_complete::ArgValueCompleter;

use super::AppContext;
use super::completions::candidates;
use super::flags::selection::VmSelection;
use crate::lifecycle;
use crate::model::TimeSpan;
use crate::output::VmView;

/// Stop VMs and keep their disks
///
/// Asks the guest to end its processes and power off, then terminates the VMM, then kills it. Exits with
/// 0 only when the VMM is proven to be gone. A VM that is not running counts as stopped. --all selects
/// running VMs, and succeeds even if there are none.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  mayfly stop ci
  mayfly stop --grace 1s ci             give its processes one second
  mayfly stop --label job=nightly")]
pub struct Args {
    #[command(flatten)]
    vms: VmSelection,

    /// Give the guest DURATION to power off by itself
    #[arg(
        long, value_name = "DURATION", env = "MAYFLY_GRACE", default_value = "10s",
        add = ArgValueCompleter::new(candidates::durations)
    )]
    grace: TimeSpan,
}

pub fn serve(app: &AppContext, args: Args) -> Result<u8> {
    let manager = app.open()?;
    args.vms.each(
        app,
        &manager,
        "stop",
        |vm| vm.state.is_up(),
        |id, _| {
            let record = lifecycle::stop(&manager, &id?, args.grace.0)?;
            Ok(Some(VmView::from(&record)))
        },
    )
}
