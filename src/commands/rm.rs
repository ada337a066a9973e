//! `mayfly rm`.

use anyhow::Result;
use serde_json::json;

use super::AppContext;
use super::flags::selection::{VmSelection, is_absent};
use crate::lifecycle::{self, VmManager};
use crate::model::record::reason;

const EXAMPLES: &str = "\
Examples:
  mayfly rm ci
  mayfly rm -f ci                            succeed also if it is gone already
  mayfly rm --all --filter state=stopped";

/// Delete VMs, running or not, with all that is theirs
///
/// A VM that runs is killed, not asked. A command that 'exec' runs in it ends with 125. --all is a success
/// where there is no VM.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    #[command(flatten)]
    vms: VmSelection,

    /// Succeed also where there is no such VM
    #[arg(short, long)]
    force: bool,
}

pub fn serve(app: &AppContext, args: Args) -> Result<u8> {
    let manager = VmManager::open(app.settings.clone())?;
    args.vms.each(
        app,
        &manager,
        "delete",
        |_| true,
        |id, named| {
            let removed = id.and_then(|id| lifecycle::remove(&manager, &id, reason::EXPLICIT));
            match removed {
                Ok(removed) => app.printer.done(&removed, named),
                Err(error) if args.force && is_absent(&error) => match app.printer.style.json {
                    true => app.printer.json(
                        &json!({ "vm_id": named, "deleted": false, "reason": reason::ABSENT }),
                    ),
                    false => Ok(()),
                },
                Err(error) => Err(error),
            }
        },
    )
}
