//! `mayfly shell`.

use std::ffi::OsString;

use anyhow::Result;
use clap_complete::ArgValueCompleter;

use super::AppContext;
use super::completions::candidates;
use super::flags::exec_context::{self, ExecContext};
use super::flags::guest_command::verdict;
use super::flags::tty;
use crate::host::signals::PendingSignals;
use crate::lifecycle::{self, ExecCommand, PhaseTimings, VmManager};
use crate::model::VmRef;
use crate::protocol::ExecProgram;

const EXAMPLES: &str = "\
Examples:
  mayfly shell box                   root's login shell
  mayfly shell -u nobody -w /tmp box -- bash
  mayfly shell box -- top            a program that wants a terminal";

const KEYS: &str = "\
All keys go to the VM, and Ctrl-C interrupts what runs there. At the beginning of a line, two keys are \
for mayfly, as with ssh: '~.' hangs up, also on a VM that answers no more, and '~' with Ctrl-Z takes you \
back to the shell you came from until 'fg'. '~~' is one tilde.

Where a VM hangs and so does this: 'mayfly stop VM' or 'mayfly rm VM' from elsewhere ends both.";

/// Open a shell in a started VM
///
/// The login shell of the user, as /etc/passwd of the VM has it, or /bin/sh where that is not there.
/// Leaving it keeps the VM, until its time is up or 'rm' deletes it, and returns the shell's exit code.
/// The time goes on while the shell is open; 'mayfly extend' gives the VM more.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
#[command(after_long_help = format!("{KEYS}\n\n{EXAMPLES}"))]
#[command(override_usage = "mayfly shell [OPTIONS] VM [-- CMD [ARG]...]")]
pub struct Args {
    /// An id, the beginning of one, or a name
    #[arg(value_name = "VM", add = ArgValueCompleter::new(candidates::vms_that_run))]
    vm: VmRef,

    #[command(flatten)]
    circumstances: ExecContext,

    /// The program to run instead of a shell, and its arguments
    #[arg(last = true, value_name = "CMD")]
    command: Vec<OsString>,
}

pub fn serve(app: &AppContext, args: Args) -> Result<u8> {
    let program = match args.command.is_empty() {
        true => ExecProgram::Login,
        false => exec_context::program(&args.command),
    };
    let mut exec = args.circumstances.exec(program, Some("'shell'"))?;
    let instead =
        format!("'mayfly exec --keep -i {} -- bash' reads commands from anywhere", args.vm);
    let streams = tty::take(app, &mut exec, "'shell'", &instead)?;
    let manager = VmManager::open(app.settings.clone())?;
    let mut signals = PendingSignals::block()?;
    let id = manager.resolve(&args.vm)?;
    let mut timings = PhaseTimings::begin();
    // Somebody who leaves a shell is not done with the VM.
    let command = ExecCommand { exec, streams, keep: true };
    let finished = lifecycle::exec(&manager, &id, command, &mut signals, &mut timings)?;
    app.printer.timings(&timings);
    if let Some(verdict) = verdict(&finished.outcome.exit, None, true) {
        app.printer.verdict(&verdict);
    }
    Ok(finished.outcome.exit.code())
}
