//! `mayfly reap`.

use anyhow::Result;

use super::AppContext;
use crate::lifecycle;
use crate::output::escape;

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
        match lifecycle::rebuild(&manager)? {
            Some(ids) => app.printer.note(&format!("registry rebuilt with {} VMs", ids.len())),
            None => app.printer.note("the registry is in order; nothing to rebuild"),
        }
    }
    let reaped = lifecycle::reap(&manager, args.dry_run)?;
    if app.printer.style.json {
        app.printer.json(&reaped)?;
        return Ok(0);
    }
    let verb = if args.dry_run { "would delete" } else { "deleted" };
    for id in &reaped.deleted_vm_ids {
        app.printer.data(&format!("{verb} VM {id}"))?;
    }
    for name in &reaped.deleted_templates {
        app.printer.data(&escape(&format!("{verb} template {name}")))?;
    }
    for leftover in &reaped.swept {
        app.printer.data(&escape(&format!("{verb} {leftover}")))?;
    }
    Ok(0)
}
