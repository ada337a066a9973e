//! `mayfly rm`.

use anyhow::Result;
use serde_json::json;

use super::AppContext;
use super::flags::selection::{VmSelection, is_absent};
use crate::lifecycle;
use crate::model::record::reason;

/// Delete VMs and everything that belongs to them, running or not
///
/// A running VM is killed, not shut down, and an 'exec' in it ends with 125. --all succeeds even if there
/// are no VMs.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  mayfly rm ci
  mayfly rm -f ci                            succeed even if it is already gone
  mayfly rm --all --filter state=stopped")]
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
                Ok(removed) => app.printer.done(&removed, named),
                Err(error) if args.force && is_absent(&error) => {
                    if app.printer.style.json {
                        app.printer.json(
                            &json!({ "vm_id": named, "deleted": false, "reason": reason::ABSENT }),
                        )?;
                    }
                    Ok(())
                }
                Err(error) => Err(error),
            }
        },
    )
}
