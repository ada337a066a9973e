//! `mayfly exec`.

mod all;

use anyhow::Result;
use clap_complete::ArgValueCompleter;

use crate::commands::AppContext;
use crate::commands::completions::candidates;
use crate::commands::flags::guest_command::CommandFlags;
use crate::commands::flags::selection::SelectionFlags;
use crate::host::signals::PendingSignals;
use crate::lifecycle::{self, ExecCommand, PhaseTimings, VmManager};
use crate::model::{Refusal, RefusalKind, VmRef};

const EXAMPLES: &str = "\
Examples:
  mayfly exec ci -- make test             run it, then delete the VM
  mayfly exec --keep ci -- make test      and keep the VM
  mayfly exec --keep --all --label job=nightly -- uptime
  mayfly exec --keep ci -c 'cd /tmp && ls | wc -l'
  mayfly exec --keep -i ci -- sort < list
  mayfly exec --keep -t ci -- top         in a terminal";

/// Run a command in a started VM, then delete the VM
///
/// Streams the command's output and returns its exit code. The VM is deleted afterwards, unless
/// --keep, 'create --keep', its profile or MAYFLY_KEEP=1 says otherwise. Variables, user and working
/// directory are those of the profile, where it names any and no flag does.
///
/// With --all the command runs in all VMs that are started, several at a time, and the rest holds for
/// each of them. Every line of its output comes whole, behind the name of its VM; one of more than 64 KiB
/// comes in pieces. On a terminal, what could command that is shown and not obeyed, and a long line goes on
/// behind the name and a colon. The exit code is the highest of all, so 0 only if it is 0 in every VM: 125
/// for a VM that was deleted or stopped in between, and where there is none to begin with. With --json
/// there is one object for each VM, in the order in which they end. Ctrl-C ends all.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
#[command(
    override_usage = "mayfly exec [OPTIONS] VM -- CMD [ARG]...\n       mayfly exec [OPTIONS] VM -c STRING\n       mayfly exec [OPTIONS] --all [--label KEY[=VALUE]] -- CMD [ARG]..."
)]
pub struct Args {
    /// An id, the beginning of one, or a name
    #[arg(
        id = "vms", required_unless_present = "all", value_name = "VM",
        add = ArgValueCompleter::new(candidates::vms_that_run)
    )]
    vm: Option<VmRef>,

    #[command(flatten)]
    all: SelectionFlags,

    /// With --all, run it in N VMs at a time
    #[arg(
        short, long, value_name = "N", default_value = "8", requires = "all", conflicts_with = "vms",
        value_parser = clap::value_parser!(u16).range(1..=32)
    )]
    jobs: u16,

    /// Keep the VM afterwards, until it expires or 'rm' deletes it
    ///
    /// One that was created to be kept is kept in any case.
    #[arg(long, env = "MAYFLY_KEEP")]
    keep: bool,

    #[command(flatten)]
    command: CommandFlags,
}

pub fn serve(app: &AppContext, args: Args) -> Result<u8> {
    if args.command.is_login() {
        let refusal = Refusal::new(RefusalKind::Usage, "no command is given");
        let hint = match args.vm {
            Some(vm) => format!("'mayfly shell {vm}' gives you a shell, and keeps the VM"),
            None => "write it behind '--', or a line for a shell behind '-c'".into(),
        };
        return Err(refusal.hint(hint).into());
    }
    let Some(vm) = args.vm else {
        let (all, command, jobs) = (&args.all, &args.command, args.jobs.into());
        return all::serve(app, &all::ExecAllRequest { all, keep: args.keep, command, jobs });
    };
    let (exec, streams) = args.command.prepare(app)?;
    let program = exec.program.clone();
    let command = ExecCommand { exec, streams, keep: args.keep };
    let manager = VmManager::open(app.settings.clone())?;
    let mut signals = PendingSignals::block()?;
    let id = manager.resolve(&vm)?;
    let mut timings = PhaseTimings::begin();
    let finished = lifecycle::exec(&manager, &id, command, &mut signals, &mut timings)?;
    if let Some(removed) = finished.cleanup.as_ref().filter(|removed| removed.deleted) {
        app.printer
            .aside(&format!("mayfly: deleted VM {id} ({}); '--keep' keeps it", removed.reason));
    }
    args.command.report(app, &id, &program, finished.outcome, finished.cleanup, &timings)
}
