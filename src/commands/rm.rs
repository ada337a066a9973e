//! `mayfly rm`.

use anyhow::Result;
use clap_complete::ArgValueCompleter;
use serde_json::json;

use super::App;
use super::candidates;
use super::each::each;
use crate::lifecycle::{self, Manager};
use crate::model::record::reason;
use crate::model::{Kind, Refusal, VmRef};

const EXAMPLES: &str = "\
Examples:
  mayfly rm ci
  mayfly rm -f ci    succeed also if it is gone already";

/// Delete VMs, running or not, with all that is theirs
///
/// A VM that runs is killed, not asked. A command that 'exec' runs in it ends with 125.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// An id, the beginning of one, or a name
    #[arg(required = true, value_name = "VM", add = ArgValueCompleter::new(candidates::vms))]
    vms: Vec<VmRef>,

    /// Succeed also where there is no such VM
    #[arg(short, long)]
    force: bool,
}

pub fn serve(app: &App, args: Args) -> Result<u8> {
    let manager = Manager::open(app.settings.clone())?;
    each(app, &args.vms, |vm| {
        let removed =
            manager.resolve(vm).and_then(|id| lifecycle::remove(&manager, &id, reason::EXPLICIT));
        match removed {
            Ok(removed) => app.printer.done(&removed, vm.as_str()),
            Err(error) if args.force && is_absent(&error) => match app.printer.style.json {
                true => app.printer.json(
                    &json!({ "vm_id": vm.as_str(), "deleted": false, "reason": reason::ABSENT }),
                ),
                false => Ok(()),
            },
            Err(error) => Err(error),
        }
    })
}

fn is_absent(error: &anyhow::Error) -> bool {
    error.downcast_ref::<Refusal>().is_some_and(|refusal| refusal.kind == Kind::NotFound)
}
