//! `mayfly df`.

use anyhow::Result;

use super::AppContext;
use crate::lifecycle;
use crate::output::{DiskUseView, disk_use_text};

/// Show what takes disk space, and what could be freed
///
/// Totals images, templates, downloads, VMs, what crashes left, and mayfly's own files, with the command that deletes what is not
/// needed. A VM's space is freed by 'rm' at any time. Files that images share count once. With -v or --json, each image,
/// template and VM is listed, too.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  mayfly df
  mayfly df -v
  mayfly df --json | jq .reclaimable_bytes")]
pub struct Args {}

pub fn serve(app: &AppContext, _: Args) -> Result<u8> {
    let groups = lifecycle::disk_use(&app.open_to_read()?)?;
    let text = disk_use_text(app.printer.layout(), &groups, app.printer.style.verbose);
    app.printer.answer(&DiskUseView::from(&groups[..]), &text)?;
    Ok(0)
}
