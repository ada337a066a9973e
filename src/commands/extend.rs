//! `mayfly extend`.

use anyhow::Result;
use clap_complete::ArgValueCompleter;

use super::AppContext;
use super::completions::candidates;
use crate::host::clock;
use crate::lifecycle;
use crate::model::{TimeSpan, VmRef};
use crate::output::VmView;

/// Give a VM more time
///
/// The VM expires DURATION from now, unless it already had longer to live. 'limits.ttl_seconds' limits
/// DURATION as it limits a TTL. A running guest is informed, because it powers itself off when its time is
/// up.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  mayfly extend ci 30m    it expires in 30 minutes")]
pub struct Args {
    /// Name or id of a VM; the beginning of an id is enough
    #[arg(value_name = "VM", add = ArgValueCompleter::new(candidates::vms))]
    vm: VmRef,

    /// Time from now, such as 90s or 1h; a bare number is seconds
    #[arg(value_name = "DURATION", add = ArgValueCompleter::new(candidates::ttls))]
    duration: TimeSpan,
}

pub fn serve(app: &AppContext, args: Args) -> Result<u8> {
    let manager = app.open()?;
    let id = manager.resolve(&args.vm)?;
    let record = lifecycle::extend(&manager, &id, args.duration)?;
    app.printer.done(&VmView::from(&record), args.vm.as_str())?;
    let left = TimeSpan::from_seconds(record.expiry.remaining(&clock::now()?));
    app.printer.note_on_terminal(&format!("mayfly: it has {left} left"));
    Ok(0)
}
