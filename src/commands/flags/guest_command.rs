//! The flags that describe a command in a guest, shared by `exec` and `run`.

use std::ffi::OsString;
use std::io::IsTerminal;
use std::os::fd::AsFd;

use anyhow::{Context, Result, bail};
use clap::{ArgGroup, Args};
use clap_complete::ArgValueCompleter;

use super::exec_context::{self, ExecContext};
use super::tty;
use crate::commands::AppContext;
use crate::commands::completions::candidates;
use crate::guest::{CommandExit, CommandOutcome, OutputSink, StdinSource};
use crate::lifecycle::{ExecStreams, PhaseTimings, RemovalReport};
use crate::model::{Refusal, TimeSpan, VmManifest};
use crate::output::{ErrorReport, ExecAnswer, shell_word};
use crate::protocol::{ExecProgram, ExecRequest, WireText};

/// How much of each stream `--json` keeps, in bytes. The answer is one JSON value, so it is held in memory.
const CAPTURE_LIMIT: usize = 4 << 20;

#[derive(Debug, Args)]
#[command(next_help_heading = "The command")]
#[command(group = ArgGroup::new("command_or_shell").args(["command", "shell"]))]
pub struct CommandFlags {
    /// Kill the command after DURATION and exit with 124
    ///
    /// Everything it started is killed too; its output until then is kept.
    #[arg(long, value_name = "DURATION", add = ArgValueCompleter::new(candidates::durations))]
    timeout: Option<TimeSpan>,

    /// Pass standard input on to the command
    ///
    /// Otherwise the command's input is empty, so that a 'while read' loop around it loses no lines.
    #[arg(short, long)]
    interactive: bool,

    /// Give the command a terminal like this one
    ///
    /// All keys go to the command, so Ctrl-C interrupts it. Its errors are printed on standard output too. At
    /// the beginning of a line, '~.' hangs up, as with ssh, even if the VM no longer answers.
    #[arg(short, long)]
    tty: bool,

    #[command(flatten)]
    context: ExecContext,

    /// Run STRING in a login shell, as 'bash -lc' does
    ///
    /// If the VM has no bash, its sh is used.
    #[arg(short = 'c', long = "command", value_name = "STRING", id = "shell")]
    shell: Option<OsString>,

    /// Program to run, and its arguments; '--' before it is needed if it begins with '-'
    #[arg(last = true, value_name = "CMD")]
    command: Vec<OsString>,
}

impl CommandFlags {
    /// Whether neither a command nor a line for a shell is given.
    pub fn has_no_command(&self) -> bool {
        self.shell.is_none() && self.command.is_empty()
    }

    /// The command's time limit.
    pub fn timeout(&self) -> Option<TimeSpan> {
        self.timeout
    }

    /// Gives the command a terminal if mayfly has one. Returns whether the command has one.
    pub fn take_terminal(&mut self, app: &AppContext) -> bool {
        let is_there = std::io::stdin().is_terminal() && std::io::stdout().is_terminal();
        self.tty |= is_there && !app.printer.style.json;
        self.tty
    }

    /// The words of the command, unless a line for a shell is given.
    pub fn words(&self) -> Option<&[OsString]> {
        self.shell.is_none().then_some(&self.command[..])
    }

    /// The request for the agent, and its streams: mayfly's own, or buffers for the JSON answer.
    ///
    /// # Errors
    /// `Usage` for flags that contradict each other, and those of [`tty::attach`].
    pub fn prepare(&self, app: &AppContext) -> Result<(ExecRequest, ExecStreams)> {
        let mut exec = self.exec()?;
        if self.tty {
            let streams = tty::attach(app, &mut exec, "'-t'", "use '-i' to pass other input on")?;
            return Ok((exec, streams));
        }
        exec.stdin = self.interactive;
        Ok((exec, self.streams(app)?))
    }

    /// The request for the agents of several VMs.
    ///
    /// # Errors
    /// As for [`CommandFlags::prepare`]; `Usage` also if standard input would go to the command.
    pub fn prepare_for_many(&self) -> Result<ExecRequest> {
        if let Some(flag) = self.stdin_flag() {
            let message = format!("{flag} cannot be used with '--all'");
            bail!(Refusal::usage(message).hint("standard input belongs to one VM: name it"));
        }
        self.exec()
    }

    fn exec(&self) -> Result<ExecRequest> {
        if self.timeout.is_some_and(|timeout| timeout.0.is_zero()) {
            bail!(Refusal::usage("--timeout must be positive"));
        }
        let program = match &self.shell {
            Some(line) => ExecProgram::Shell(exec_context::text(line)),
            None if self.has_no_command() => ExecProgram::Login,
            None => exec_context::program(&self.command),
        };
        let mut exec = self.context.exec(program, self.stdin_flag())?;
        exec.timeout_ms = self.timeout.map(|timeout| timeout.0.as_millis() as u64);
        Ok(exec)
    }

    /// The flag that passes standard input to the command.
    fn stdin_flag(&self) -> Option<&'static str> {
        let interactive = self.interactive.then_some("'-i'");
        if self.tty { Some("'-t'") } else { interactive }
    }

    /// A buffer for the JSON answer.
    pub fn capture() -> OutputSink {
        OutputSink::Capture { limit: CAPTURE_LIMIT }
    }

    fn streams(&self, app: &AppContext) -> Result<ExecStreams> {
        let duplicate = |fd: std::os::fd::BorrowedFd| {
            fd.try_clone_to_owned().context("cannot use a standard stream")
        };
        let stdin = self.interactive.then(|| duplicate(std::io::stdin().as_fd())).transpose()?;
        let stdin = stdin.map(StdinSource::Bytes);
        let (stdout, stderr) = if app.printer.style.json {
            (CommandFlags::capture(), CommandFlags::capture())
        } else {
            (
                OutputSink::Stream(duplicate(std::io::stdout().as_fd())?),
                OutputSink::Stream(duplicate(std::io::stderr().as_fd())?),
            )
        };
        Ok(ExecStreams { stdin, stdout, stderr })
    }

    /// What mayfly itself has to say about the end of this command.
    pub fn error(&self, exit: &CommandExit) -> Option<ErrorReport> {
        ErrorReport::of_exit(exit, self.timeout, self.tty)
    }

    /// Prints the JSON answer, or what mayfly has to say about the end, and returns the exit code.
    pub fn report(
        &self,
        app: &AppContext,
        vm: &VmManifest,
        program: &ExecProgram,
        outcome: CommandOutcome,
        cleanup: Option<RemovalReport>,
        timings: &PhaseTimings,
    ) -> Result<u8> {
        let error = self.error(&outcome.exit);
        let exit_code = outcome.exit.code();
        app.printer.timings(timings);
        if !app.printer.style.json {
            error.iter().for_each(|error| app.printer.conclusion(error));
            return Ok(exit_code);
        }
        let command = command_line(program);
        let answer = ExecAnswer::new(vm, command, outcome, error, cleanup.as_ref(), timings);
        app.printer.json(&answer).with_context(|| {
            format!("VM {}: the command ended with {exit_code}, but the answer is lost", vm.vm_id)
        })?;
        Ok(exit_code)
    }
}

/// A command as the user could have typed it.
fn command_line(program: &ExecProgram) -> String {
    match program {
        ExecProgram::Shell(line) => line.as_os_str().to_string_lossy().into_owned(),
        ExecProgram::Argv(words) => {
            let word = |word: &WireText| shell_word(&word.as_os_str().to_string_lossy());
            words.iter().map(word).collect::<Vec<_>>().join(" ")
        }
        // Not typed by a user.
        ExecProgram::Login | ExecProgram::Pack(_) | ExecProgram::Unpack(_) => String::new(),
    }
}
