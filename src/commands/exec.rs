//! `mayfly exec`.

use anyhow::Result;
use clap_complete::ArgValueCompleter;

use super::App;
use super::candidates;
use super::guest_command::GuestCommand;
use crate::host::signals::Signals;
use crate::lifecycle::{self, Command, Manager, Timings};
use crate::model::{Kind, Refusal, VmRef};

const EXAMPLES: &str = "\
Examples:
  mayfly exec ci -- make test             run it, then delete the VM
  mayfly exec --keep ci -- make test      and keep the VM
  mayfly exec --keep ci -c 'cd /tmp && ls | wc -l'
  mayfly exec --keep -i ci -- sort < list
  mayfly exec --keep -t ci -- top         in a terminal";

/// Run a command in a started VM, then delete the VM
///
/// Streams the command's output and returns its exit code. The VM is deleted afterwards, unless
/// --keep, 'create --keep', its profile or MAYFLY_KEEP=1 says otherwise.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
#[command(
    override_usage = "mayfly exec [OPTIONS] VM -- CMD [ARG]...\n       mayfly exec [OPTIONS] VM -c STRING"
)]
pub struct Args {
    /// An id, the beginning of one, or a name
    #[arg(value_name = "VM", add = ArgValueCompleter::new(candidates::vms_that_run))]
    vm: VmRef,

    /// Keep the VM afterwards, until it expires or 'rm' deletes it
    ///
    /// One that was created to be kept is kept in any case.
    #[arg(long, env = "MAYFLY_KEEP")]
    keep: bool,

    #[command(flatten)]
    command: GuestCommand,
}

pub fn serve(app: &App, args: Args) -> Result<u8> {
    if args.command.is_login() {
        let refusal = Refusal::new(Kind::Usage, "no command is given");
        let hint = format!("'mayfly shell {}' gives you a shell, and keeps the VM", args.vm);
        return Err(refusal.hint(hint).into());
    }
    let (exec, streams) = args.command.prepare(app)?;
    let command = Command { exec, streams, keep: args.keep };
    let manager = Manager::open(app.settings.clone())?;
    let mut signals = Signals::block()?;
    let id = manager.resolve(&args.vm)?;
    let mut timings = Timings::begin();
    let finished = lifecycle::exec(&manager, &id, command, &mut signals, &mut timings)?;
    if let Some(removed) = finished.cleanup.as_ref().filter(|removed| removed.deleted) {
        app.printer
            .aside(&format!("mayfly: deleted VM {id} ({}); '--keep' keeps it", removed.reason));
    }
    args.command.report(app, &id, finished.outcome, finished.cleanup, &timings)
}
