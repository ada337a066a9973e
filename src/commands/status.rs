//! `mayfly status`.

use anyhow::Result;
use clap_complete::ArgValueCompleter;

use super::App;
use super::candidates;
use super::each::each;
use crate::host::clock;
use crate::lifecycle::{self, Manager};
use crate::model::{VmRecord, VmRef};
use crate::output::{VmView, status_table};

const EXAMPLES: &str = "\
Examples:
  mayfly status
  mayfly status ci
  mayfly status --json | jq -r '.[] | select(.state == \"started\").vm_id'";

/// List VMs: all of them, or the ones named
///
/// A VM that is named and has expired is deleted and reported as an error. The list of all shows
/// expired VMs as such and changes nothing.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// An id, the beginning of one, or a name
    #[arg(value_name = "VM", add = ArgValueCompleter::new(candidates::vms))]
    vms: Vec<VmRef>,
}

pub fn serve(app: &App, args: Args) -> Result<u8> {
    let manager = Manager::open_to_read(app.settings.clone())?;
    if args.vms.is_empty() {
        show(app, &lifecycle::status_all(&manager)?)?;
        return Ok(0);
    }
    let mut found = Vec::new();
    let code = each(app, &args.vms, |vm| {
        found.push(lifecycle::status(&manager, vm)?);
        Ok(())
    })?;
    match app.printer.style.json {
        true => found.iter().try_for_each(|record| app.printer.json(&VmView::from(record)))?,
        false if !found.is_empty() => show(app, &found)?,
        false => {}
    }
    Ok(code)
}

fn show(app: &App, records: &[VmRecord]) -> Result<()> {
    match app.printer.style.json {
        true => app.printer.json(&records.iter().map(VmView::from).collect::<Vec<_>>()),
        false => app.printer.data(&status_table(records, &clock::now()?)),
    }
}
