//! `mayfly image prune`.

use anyhow::Result;

use crate::commands::AppContext;
use crate::lifecycle;
use crate::output::PruneView;

/// Delete images that nothing needs
///
/// Deletes images that no VM here was made from and no profile needs: the profile no longer exists or now
/// names other packages or another container image. Also deletes templates whose image is gone, downloads
/// that are part of no image, and what killed builds left. An image that was imported or pulled comes with its
/// profile, and stays until 'image rm'. Prints what is deleted.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  mayfly image prune --dry-run      only show what would be deleted
  mayfly image prune                images that no profile needs
  mayfly image prune --all          also images that can be rebuilt")]
pub struct Args {
    /// Also delete images that can be rebuilt, if no VM was made from them
    #[arg(short, long)]
    all: bool,

    /// Only print what would be deleted
    #[arg(long)]
    dry_run: bool,
}

pub fn serve(app: &AppContext, args: &Args) -> Result<u8> {
    let manager = if args.dry_run { app.open_to_read()? } else { app.open()? };
    let pruned = lifecycle::prune_images(&manager, args.all, args.dry_run)?;
    let names = pruned.removed.iter().map(|removed| removed.what.name().to_owned());
    let view = PruneView::new(&pruned.removed, pruned.freed_bytes, args.dry_run);
    app.printer.results(&view, &names.collect::<Vec<_>>())?;
    if app.printer.style.json {
        return Ok(0);
    }
    let freed = if args.dry_run { "would free" } else { "freed" };
    app.printer.note(&format!("mayfly: {freed} {} MB", pruned.freed_bytes / 1_000_000));
    Ok(0)
}
