//! `mayfly reap`.

use anyhow::Result;

use super::AppContext;
use crate::lifecycle::{self, RebuildOutcome};

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
    if args.rebuild {
        app.printer.note(&match lifecycle::rebuild(&manager)? {
            RebuildOutcome::Replaced(count) => format!("mayfly: registry rebuilt with {count} VMs"),
            RebuildOutcome::Added(0) => {
                "mayfly: the registry is in order; nothing to rebuild".into()
            }
            RebuildOutcome::Added(count) => format!("mayfly: {count} VMs added to the registry"),
        });
    }
    let mut reaped = lifecycle::ReapReport::default();
    let done = lifecycle::reap(&manager, args.dry_run, &mut reaped);
    let verb = if args.dry_run { "would delete" } else { "deleted" };
    let vms = reaped.deleted_vm_ids.iter().map(|id| format!("{verb} VM {id}"));
    let templates = reaped.deleted_templates.iter().map(|name| format!("{verb} template {name}"));
    let others = reaped.swept.iter().map(|leftover| format!("{verb} {leftover}"));
    app.printer.results(&reaped, &vms.chain(templates).chain(others).collect::<Vec<_>>())?;
    done.map(|()| 0)
}
