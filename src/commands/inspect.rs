//! `mayfly inspect`.

use anyhow::Result;
use clap_complete::ArgValueCompleter;

use super::AppContext;
use super::completions::candidates;
use super::each::each;
use crate::lifecycle;
use crate::model::VmRef;
use crate::output::{InspectionView, inspection_text};

/// Show everything about VMs
///
/// Shows what 'status' shows, and also labels, times, disk space, paths, image, template and processes. Changes
/// nothing: an expired VM is shown, not deleted.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  mayfly inspect ci
  mayfly inspect --json ci | jq -r .paths.console_log")]
pub struct Args {
    /// Name or id of a VM; the beginning of an id is enough
    #[arg(required = true, value_name = "VM", add = ArgValueCompleter::new(candidates::vms))]
    vms: Vec<VmRef>,
}

pub fn serve(app: &AppContext, args: Args) -> Result<u8> {
    let manager = app.open_to_read()?;
    let mut is_first = true;
    each(app, &args.vms, |vm| {
        let found = lifecycle::inspect(&manager, vm)?;
        let separator = if std::mem::take(&mut is_first) { "" } else { "\n" };
        let text = format!("{separator}{}", inspection_text(app.printer.layout(), &found));
        app.printer.answer(&InspectionView::from(&found), &text)
    })
}
