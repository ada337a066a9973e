//! `mayfly exec`.

mod all;

use anyhow::{Result, bail};
use clap_complete::ArgValueCompleter;

use crate::commands::AppContext;
use crate::commands::completions::candidates;
use crate::commands::flags::guest_command::CommandFlags;
use crate::commands::flags::keep::KeepFlags;
use crate::commands::flags::selection::{SELECTION, SELECTION_FLAGS, SelectionFlags};
use crate::host::signals::PendingSignals;
use crate::lifecycle::{self, ExecCommand, PhaseTimings};
use crate::model::{Refusal, VmRef};

/// Run a command in a running VM, then delete the VM
///
/// Streams the command's output and returns its exit code. The VM is deleted afterwards, unless --keep,
/// 'create --keep', its profile or MAYFLY_KEEP=1 says otherwise; --rm deletes it whatever they say. Variables, user and working directory
/// come from the profile unless flags set them. mayfly's own flags come before CMD: every word after it
/// belongs to the command.
///
/// With --all, the command runs in all running VMs, several at a time, and everything else applies to each
/// of them. Each line of output follows the name of its VM; a line of more than 64 KiB is split. On a
/// terminal, escape sequences are shown, not executed; a long line continues after the VM's name and a colon.
/// The exit code is the highest of all. It is 125 for a VM that was deleted or stopped in the meantime, and if
/// no VM is running. With --json, one object per VM is printed, as the commands end. Ctrl-C ends all of them.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  mayfly exec ci make test                run it, then delete the VM
  mayfly exec --keep ci make test         keep the VM
  mayfly exec --keep --label job=nightly uptime
  mayfly exec --keep ci -c 'cd /tmp && ls | wc -l'
  mayfly exec --keep -i ci sort < list
  mayfly exec --keep -t ci top            on a terminal")]
#[command(
    override_usage = "mayfly exec [OPTIONS] VM CMD [ARG]...\n       mayfly exec [OPTIONS] VM -c STRING\n       mayfly exec [OPTIONS] --all|--label KEY[=VALUE] CMD [ARG]..."
)]
pub struct Args {
    /// Name or id of a VM; the beginning of an id is enough
    #[arg(
        required_unless_present = SELECTION, conflicts_with_all = SELECTION_FLAGS, value_name = "VM",
        add = ArgValueCompleter::new(candidates::running_vms)
    )]
    vm: Option<VmRef>,

    #[command(flatten)]
    all: SelectionFlags,

    /// With --all or --label: run the command in N VMs at a time
    #[arg(
        short, long, value_name = "N", default_value = "8", requires = SELECTION, conflicts_with = "vm",
        value_parser = jobs
    )]
    jobs: usize,

    #[command(flatten)]
    keep: KeepFlags,

    #[command(flatten)]
    command: CommandFlags,
}

/// The value of --jobs.
fn jobs(text: &str) -> Result<usize, Refusal> {
    let number = text.parse().ok().filter(|number| (1..=32).contains(number));
    number.ok_or_else(|| Refusal::usage(format!("must be between 1 and 32, not {text}")))
}

pub fn serve(app: &AppContext, args: Args) -> Result<u8> {
    if args.command.has_no_command() {
        let refusal = Refusal::usage("no command given");
        let hint = match args.vm {
            Some(vm) => format!("'mayfly shell {vm}' gives you a shell, and keeps the VM"),
            None => "write it at the end, or pass a line for a shell with '-c'".into(),
        };
        bail!(refusal.hint(hint));
    }
    let keep = args.keep.keep_existing(app)?;
    let Some(vm) = args.vm else {
        return all::serve(app, &args.all, &args.command, keep, args.jobs);
    };
    let (exec, streams) = args.command.prepare(app)?;
    let program = exec.program.clone();
    let command = ExecCommand { exec, streams, keep, denials: app.denial_notes() };
    let manager = app.open()?;
    let mut signals = PendingSignals::block()?;
    let id = manager.resolve(&vm)?;
    let mut timings = PhaseTimings::begin();
    let finished = lifecycle::exec(&manager, &id, command, &mut signals, &mut timings)?;
    if let Some(removed) = finished.cleanup.as_ref().filter(|removed| removed.deleted) {
        app.printer.note_on_terminal(&format!(
            "mayfly: deleted VM {vm} ({}); '--keep' keeps it",
            removed.reason
        ));
    }
    args.command.report(app, &finished.vm, &program, finished.outcome, finished.cleanup, &timings)
}
