//! `mayfly stop`.

use anyhow::Result;
use clap_complete::ArgValueCompleter;

use super::App;
use super::candidates;
use super::each::each;
use crate::lifecycle::{self, Manager};
use crate::model::{Span, VmRef};
use crate::output::VmView;

const EXAMPLES: &str = "\
Examples:
  mayfly stop ci
  mayfly stop --grace 1s ci    do not wait long for its processes";

/// Stop VMs, keeping their disks
///
/// Asks the guest to end its processes and power off, then terminates the VMM, then kills it. Exits
/// with 0 only when it is proven gone. A VM that does not run is already stopped.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// An id, the beginning of one, or a name
    #[arg(required = true, value_name = "VM", add = ArgValueCompleter::new(candidates::vms))]
    vms: Vec<VmRef>,

    /// Give the guest DURATION to end by itself
    #[arg(long, value_name = "DURATION", env = "MAYFLY_GRACE", default_value = "10s")]
    grace: Span,
}

pub fn serve(app: &App, args: Args) -> Result<u8> {
    let manager = Manager::open(app.settings.clone())?;
    each(app, &args.vms, |vm| {
        let id = manager.resolve(vm)?;
        let record = lifecycle::stop(&manager, &id, args.grace.0)?;
        app.printer.done(&VmView::from(&record), vm.as_str())
    })
}
