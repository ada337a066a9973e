//! `mayfly image prune`.

use anyhow::Result;

use crate::commands::AppContext;
use crate::lifecycle::{self, VmManager};
use crate::model::ProfileName;

const EXAMPLES: &str = "\
Examples:
  mayfly image prune --dry-run      what would go
  mayfly image prune                what no profile has any more
  mayfly image prune --all          also what can be built again";

/// Delete images that nothing needs
///
/// Goes what no VM of this state directory was made from and no profile has: images of profiles that are
/// not there any more or that name other packages now, templates whose image is gone, and what killed
/// builds left. Imported images have their profile with them, and stay until 'image rm'. Prints what is
/// deleted.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Delete also the images that can be built again, if no VM was made from them
    #[arg(short, long)]
    all: bool,

    /// Only say what would be deleted
    #[arg(short = 'n', long)]
    dry_run: bool,
}

pub fn serve(app: &AppContext, args: &Args) -> Result<u8> {
    let manager = match args.dry_run {
        true => VmManager::open_to_read(app.settings.clone())?,
        false => VmManager::open(app.settings.clone())?,
    };
    let pruned = lifecycle::prune_images(&manager, args.all, args.dry_run)?;
    if app.printer.style.json {
        app.printer.json(&pruned)?;
        return Ok(0);
    }
    let names = pruned.deleted.iter().map(ProfileName::as_str);
    let others = pruned.deleted_templates.iter().chain(&pruned.swept).map(String::as_str);
    for name in names.chain(others) {
        app.printer.data(name)?;
    }
    let freed = match args.dry_run {
        true => "would free",
        false => "freed",
    };
    app.printer.note(&format!("mayfly: {freed} {} MB", pruned.freed_bytes / 1_000_000));
    Ok(0)
}
