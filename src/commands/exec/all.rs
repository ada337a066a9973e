//! `mayfly exec --all`: a command in several VMs at once.

use std::io::{PipeReader, Read, pipe};

use anyhow::{Context, Result, bail};

use crate::commands::AppContext;
use crate::commands::flags::guest_command::CommandFlags;
use crate::commands::flags::selection::SelectionFlags;
use crate::guest::{CommandOutcome, OutputSink};
use crate::host::clock;
use crate::host::signals::PendingSignals;
use crate::host::thread;
use crate::lifecycle::{
    self, DenialNotes, ExecCommand, ExecStreams, FinishedCommand, PhaseTimings, VmManager,
};
use crate::model::{Refusal, RefusalKind, VmPhase, VmRecord};
use crate::output::{ErrorReport, OutputDeadline, PrefixedLines, SharedStream, WritePatience};
use crate::protocol::ExecRequest;

pub fn serve(
    app: &AppContext,
    all: &SelectionFlags,
    command: &CommandFlags,
    keep: Option<bool>,
    jobs: usize,
) -> Result<u8> {
    let exec = command.prepare_for_many()?;
    let manager = app.open()?;
    let mut signals = PendingSignals::block()?;
    let now = clock::now()?;
    let mut vms = all.find(&manager)?;
    vms.retain(|vm| matches!(vm.state, VmPhase::Started { .. }) && !vm.has_expired(&now));
    if vms.is_empty() {
        let refusal = Refusal::new(RefusalKind::NotFound, "no VM to run the command in");
        bail!(refusal.hint("none of the matching VMs is running; see 'mayfly status'"));
    }
    check_not_vm(app, command, &vms)?;
    let batch = VmBatch {
        app,
        manager: &manager,
        exec: &exec,
        keep,
        width: vms.iter().map(|vm| vm.manifest.display_name().len()).max().unwrap_or(0),
        stdout: SharedStream::of(std::io::stdout())?,
        stderr: SharedStream::of(std::io::stderr())?,
    };
    // The highest exit code does not depend on the order in which the commands end.
    let (mut code, mut deleted) = (0, 0);
    let run = |vm: &VmRecord, signals: &mut [PendingSignals; 3]| batch.run(vm, signals);
    lifecycle::in_parallel(&vms, jobs, &mut signals, run, |vm, ran| {
        let reported = ran.and_then(|ran| {
            let was_deleted = ran.finished.cleanup.as_ref().is_some_and(|removed| removed.deleted);
            deleted += usize::from(was_deleted);
            batch.stderr.between(|| batch.report(command, vm, ran))
        });
        let vm_code = reported.unwrap_or_else(|error| batch.report_error(vm, &error));
        code = code.max(vm_code);
    })?;
    if deleted > 0 {
        app.printer
            .note_on_terminal(&format!("mayfly: deleted {deleted} VMs; '--keep' keeps them"));
    }
    Ok(code)
}

/// Refuses a VM's name in the place of the command.
fn check_not_vm(app: &AppContext, command: &CommandFlags, vms: &[VmRecord]) -> Result<(), Refusal> {
    let first = command.words().and_then(|words| words.first()?.to_str());
    let Some(word) = first.filter(|_| app.is_command_bare) else { return Ok(()) };
    let is_vm = |vm: &VmRecord| vm.manifest.display_name() == word || vm.id().as_str() == word;
    if !vms.iter().any(is_vm) {
        return Ok(());
    }
    Err(Refusal::usage(format!("{word:?} is a VM, and '--all' selects all of them"))
        .hint("leave out one of them; a program of that name needs '--' before it"))
}

/// What the commands in all VMs have in common.
struct VmBatch<'a> {
    app: &'a AppContext,
    manager: &'a VmManager,
    exec: &'a ExecRequest,
    keep: Option<bool>,
    /// The length of the longest name.
    width: usize,
    stdout: SharedStream,
    stderr: SharedStream,
}

/// How the command ended in one VM.
struct FinishedExec {
    finished: FinishedCommand,
    timings: PhaseTimings,
}

impl VmBatch<'_> {
    fn run(&self, vm: &VmRecord, signals: &mut [PendingSignals; 3]) -> Result<FinishedExec> {
        let mut timings = PhaseTimings::begin();
        let [signals, for_stdout, for_stderr] = signals;
        let mut exec = |stdout, stderr| {
            let streams = ExecStreams { stdin: None, stdout, stderr };
            let denials = match self.app.denial_notes() {
                DenialNotes::Silent => DenialNotes::Silent,
                _ => DenialNotes::Named,
            };
            let command =
                ExecCommand { exec: self.exec.clone(), streams, keep: self.keep, denials };
            lifecycle::exec(self.manager, vm.id(), command, signals, &mut timings)
        };
        let finished = if self.app.printer.style.json {
            exec(CommandFlags::capture(), CommandFlags::capture())
        } else {
            let (out, stdout) = pipe().context("cannot make a pipe")?;
            let (err, stderr) = pipe().context("cannot make a pipe")?;
            let deadline = &OutputDeadline::default();
            std::thread::scope(|scope| {
                let printers = [
                    thread::start(scope, || {
                        self.print(vm, out, &self.stdout, for_stdout, deadline)
                    })?,
                    thread::start(scope, || {
                        self.print(vm, err, &self.stderr, for_stderr, deadline)
                    })?,
                ];
                // When it returns, the writing ends are closed, so both threads end.
                let ran =
                    exec(OutputSink::Stream(stdout.into()), OutputSink::Stream(stderr.into()));
                if ran.as_ref().map_or(true, |ran| ran.outcome.exit.was_out_of_time()) {
                    deadline.close();
                }
                for printer in printers {
                    printer.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
                }
                ran
            })
        }?;
        Ok(FinishedExec { finished, timings })
    }

    /// Prints output line by line. If printing stops early, the command finds its output closed.
    fn print(
        &self,
        vm: &VmRecord,
        mut from: PipeReader,
        to: &SharedStream,
        signals: &mut PendingSignals,
        deadline: &OutputDeadline,
    ) -> Result<()> {
        let mut lines = PrefixedLines::of(vm.manifest.display_name(), self.width);
        let mut patience = WritePatience::of(signals, deadline);
        let mut piece = vec![0; 64 << 10];
        while let Ok(count @ 1..) = from.read(&mut piece) {
            let whole = lines.push(&piece[..count], to.columns());
            if !to.write(&whole, &mut patience)? {
                return Ok(());
            }
        }
        to.write(&lines.finish(to.columns()), &mut patience).map(drop)
    }

    /// Reports how a command ended, unless it succeeded, and returns its exit code.
    fn report(&self, command: &CommandFlags, vm: &VmRecord, ran: FinishedExec) -> Result<u8> {
        let FinishedCommand { vm: manifest, outcome, cleanup } = ran.finished;
        if self.app.printer.style.json {
            let (program, timings) = (&self.exec.program, &ran.timings);
            return command.report(self.app, &manifest, program, outcome, cleanup, timings);
        }
        let (printer, name) = (&self.app.printer, vm.manifest.display_name());
        printer.detail(&format!("{name}:"));
        printer.timings(&ran.timings);
        let CommandOutcome { exit, .. } = outcome;
        let code = exit.code();
        match command.error(&exit) {
            Some(error) => {
                let message = format!("{name}: {}", error.message);
                printer.conclusion(&ErrorReport { message, ..error });
            }
            None if code != 0 => printer.note(&format!("mayfly: {name}: exit code {code}")),
            None => {}
        }
        Ok(code)
    }

    /// Prints the error that kept the command from finishing, and returns the exit code for it.
    fn report_error(&self, vm: &VmRecord, error: &anyhow::Error) -> u8 {
        let failure = ErrorReport::of_command(error);
        let message = format!("{}: {}", vm.manifest.display_name(), failure.message);
        let failure = ErrorReport { message, ..failure };
        self.stderr.between(|| self.app.printer.failure(&failure));
        failure.exit_code
    }
}
