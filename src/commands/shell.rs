//! `mayfly shell`.

use std::ffi::OsString;

use anyhow::Result;
use clap_complete::ArgValueCompleter;

use super::AppContext;
use super::completions::candidates;
use super::flags::exec_context::{self, ExecContext};
use super::flags::tty;
use crate::host::signals::PendingSignals;
use crate::lifecycle::{self, ExecCommand, PhaseTimings};
use crate::model::VmRef;
use crate::output::ErrorReport;
use crate::protocol::ExecProgram;

const EXAMPLES: &str = "\
Examples:
  mayfly shell box                   root's login shell
  mayfly shell -u nobody -w /tmp box bash
  mayfly shell box top               a program that needs a terminal";

const KEYS: &str = "\
All keys go to the VM, so Ctrl-C interrupts the program that runs there. At the beginning of a line, mayfly \
handles some sequences itself, as ssh does: '~.' hangs up, even if the VM no longer answers, '~' followed by \
Ctrl-Z returns to your own shell until 'fg', '~~' sends one tilde, and '~?' lists these.

A minute before the VM expires, the top line of the terminal says so.

If a VM hangs, 'mayfly stop VM' or 'mayfly rm VM' on another terminal ends both the VM and its shell.";

/// Open a shell in a running VM
///
/// Starts the user's login shell according to the VM's /etc/passwd, or /bin/sh if that shell does not
/// exist, and returns its exit code. The VM is kept until it expires or 'rm' deletes it. It can
/// expire while the shell is open; 'mayfly extend' gives it more time.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
#[command(after_long_help = format!("{KEYS}\n\n{EXAMPLES}"))]
#[command(override_usage = "mayfly shell [OPTIONS] VM [CMD [ARG]...]")]
pub struct Args {
    /// Name or id of a VM; the beginning of an id is enough
    #[arg(value_name = "VM", add = ArgValueCompleter::new(candidates::running_vms))]
    vm: VmRef,

    #[command(flatten)]
    context: ExecContext,

    /// Program to run instead of a shell, and its arguments
    #[arg(last = true, value_name = "CMD")]
    command: Vec<OsString>,
}

pub fn serve(app: &AppContext, args: Args) -> Result<u8> {
    let program = if args.command.is_empty() {
        ExecProgram::Login
    } else {
        exec_context::program(&args.command)
    };
    let mut exec = args.context.exec(program, Some("'shell'"))?;
    let instead =
        format!("'mayfly exec --keep -i {} -- bash' reads commands from a file or a pipe", args.vm);
    let streams = tty::attach(app, &mut exec, "'shell'", &instead)?;
    let manager = app.open()?;
    let mut signals = PendingSignals::block()?;
    let id = manager.resolve(&args.vm)?;
    let mut timings = PhaseTimings::begin();
    // Leaving a shell does not mean being done with the VM.
    let command = ExecCommand { exec, streams, keep: Some(true), denials: app.denial_notes() };
    let finished = lifecycle::exec(&manager, &id, command, &mut signals, &mut timings)?;
    app.printer.timings(&timings);
    let error = ErrorReport::of_exit(&finished.outcome.exit, None, true);
    error.iter().for_each(|error| app.printer.conclusion(error));
    Ok(finished.outcome.exit.code())
}
