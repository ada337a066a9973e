//! `mayfly rm`.

use anyhow::Result;

use super::AppContext;
use super::flags::selection::{VmSelection, is_absent};
use crate::lifecycle;
use crate::model::record::reason;
use crate::output::RemovalView;

/// Delete VMs and everything that belongs to them, running or not
///
/// A running VM is killed, not shut down, and an 'exec' in it ends with 125. --all, --label and --filter
/// succeed even if there are no such VMs.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  mayfly rm ci
  mayfly rm -f ci                            succeed even if it is already gone
  mayfly rm --filter state=stopped")]
pub struct Args {
    #[command(flatten)]
    vms: VmSelection,

    /// Succeed even if there is no such VM
    #[arg(short, long)]
    force: bool,
}

pub fn serve(app: &AppContext, args: Args) -> Result<u8> {
    let manager = app.open()?;
    args.vms.each(
        app,
        &manager,
        "delete",
        |_| true,
        |id, named| {
            let removed = id.and_then(|id| lifecycle::remove(&manager, &id, reason::EXPLICIT));
            match removed {
                Ok(removed) => Ok(Some(RemovalView::from(&removed))),
                Err(error) if args.force && is_absent(&error) => {
                    Ok(app.printer.style.json.then(|| RemovalView::absent_vm(named)))
                }
                Err(error) => Err(error),
            }
        },
    )
}
