//! `mayfly reap`.

use anyhow::Result;

use super::AppContext;
use crate::lifecycle::{self, RebuildOutcome, RemovedThing};
use crate::output::ReapView;

/// Delete expired VMs and what crashes left behind
///
/// Finishes operations that a killed command left half done, and deletes processes, directories and sockets
/// that belong to no VM. Deletes templates whose image is gone, and templates that no VM has been started
/// from for 30 days ('limits.template_unused_seconds'). Skips what another command is using. Prints nothing if
/// there is nothing to do, so that cron sends no mail.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  mayfly reap
  mayfly reap --dry-run
  */10 * * * * /usr/local/bin/mayfly reap  in a crontab")]
pub struct Args {
    /// Only print what would be deleted
    #[arg(long)]
    dry_run: bool,

    /// First rebuild the registry from the VMs' manifests, if it is damaged or lost
    #[arg(long, conflicts_with = "dry_run")]
    rebuild: bool,
}

pub fn serve(app: &AppContext, args: Args) -> Result<u8> {
    let manager = if args.dry_run { app.open_to_read()? } else { app.open()? };
    let mut rebuilt = None;
    if args.rebuild {
        let (note, count) = match lifecycle::rebuild(&manager)? {
            RebuildOutcome::Replaced(count) => {
                (format!("registry rebuilt with {count} VMs"), count)
            }
            RebuildOutcome::Added(0) => ("the registry is in order; nothing to rebuild".into(), 0),
            RebuildOutcome::Added(count) => (format!("{count} VMs added to the registry"), count),
        };
        rebuilt = Some(count);
        if !app.printer.style.json {
            app.printer.note(&format!("mayfly: {note}"));
        }
    }
    let mut removed = Vec::new();
    let known = manager.registry.read()?;
    let done = lifecycle::reap(&manager, args.dry_run, &mut removed);
    let verb = if args.dry_run { "would delete" } else { "deleted" };
    let lines = removed.iter().filter_map(|removed| match &removed.what {
        RemovedThing::Leftover(_) if app.printer.style.quiet => None,
        what if app.printer.style.quiet => Some(what.name().to_owned()),
        RemovedThing::Vm(id) => {
            let name = known.vms.get(id).map_or(id.as_str(), |vm| vm.manifest.display_name());
            Some(format!("{verb} VM {name}"))
        }
        what => Some(format!("{verb} {what}")),
    });
    let view = ReapView::new(&removed, args.dry_run, rebuilt);
    app.printer.results(&view, &lines.collect::<Vec<_>>())?;
    done.map(|()| 0)
}
