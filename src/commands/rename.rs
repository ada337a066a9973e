//! `mayfly rename`.

use anyhow::Result;
use clap_complete::ArgValueCompleter;

use super::AppContext;
use super::completions::candidates;
use crate::lifecycle;
use crate::model::{VmName, VmRef};
use crate::output::VmView;

/// Give a VM another name
///
/// If another VM has the name, the exit code is 4. A running guest keeps its hostname until its next start.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  mayfly rename ci ci-broken
  mayfly rename 3f2a ci        a VM that has no name")]
pub struct Args {
    /// Name or id of a VM; the beginning of an id is enough
    #[arg(value_name = "VM", add = ArgValueCompleter::new(candidates::vms))]
    vm: VmRef,

    /// New name: letters, digits and hyphens
    #[arg(value_name = "NAME")]
    name: VmName,
}

pub fn serve(app: &AppContext, args: Args) -> Result<u8> {
    let manager = app.open()?;
    let id = manager.resolve(&args.vm)?;
    let record = lifecycle::rename(&manager, &id, &args.name)?;
    app.printer.done(&VmView::from(&record), args.name.as_str())?;
    Ok(0)
}
