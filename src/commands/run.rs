//! `mayfly run`.

use std::cell::Cell;
use std::ffi::OsString;

use anyhow::{Result, bail};

use super::AppContext;
use super::build_progress::create_vm;
use super::flags::copies::CopyFlags;
use super::flags::exec_context::text;
use super::flags::guest_command::CommandFlags;
use super::flags::keep::KeepFlags;
use super::flags::start::StartFlags;
use super::flags::vm::VmFlags;
use super::pool::refill;
use crate::guest::CommandExit;
use crate::host::signals::PendingSignals;
use crate::host::{clock, process};
use crate::lifecycle::{
    self, CommandWords, CreateRequest, DiskCopyPlan, ExecCommand, PhaseTimings, StartCaller,
    StreamPurpose,
};
use crate::model::{Refusal, TimeSpan};
use crate::output::{ErrorReport, about_mount};
use crate::settings::{ConfigKey, ValueOrigin};

/// Run a command in a new VM, and leave nothing behind
///
/// Does what 'create', 'start', 'exec' and 'rm' do, and returns the command's exit code. Builds or pulls a missing
/// image first. The VM is deleted whatever happens, even after Ctrl-C. If mayfly itself is killed, the next 'mayfly
/// reap' deletes it.
///
/// The VM lives at least as long as --timeout, and without --ttl five minutes more.
///
/// A profile can have an entrypoint and a command, as container images do. 'run' puts the entrypoint before
/// CMD. Without CMD, it uses the profile's command. '-c' and 'exec' ignore both. Without any command, 'run' on a
/// terminal is a login shell of root or USER.
///
/// mayfly's own flags come before CMD: every word after it belongs to the command.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  mayfly run uname -a
  mayfly run                              a shell in a new VM
  mayfly run --timeout 30s --net egress -c 'apt-get update; exit 3'
  mayfly run -p debian-build --copy-in . --copy-out build make
  mayfly run --image nginx                the command of a container image")]
#[command(
    override_usage = "mayfly run [OPTIONS] [CMD [ARG]...]\n       mayfly run [OPTIONS] -c STRING"
)]
pub struct Args {
    #[command(flatten)]
    vm: VmFlags,

    #[command(flatten)]
    start: StartFlags,

    #[command(flatten)]
    keep: KeepFlags,

    #[command(flatten)]
    copies: CopyFlags,

    #[command(flatten)]
    command: CommandFlags,

    /// Run PROGRAM with CMD as its arguments
    ///
    /// It replaces the profile's entrypoint and command. If PROGRAM is empty, CMD alone is run.
    #[arg(
        long,
        value_name = "PROGRAM",
        conflicts_with = "shell",
        help_heading = "The command",
        hide_short_help = true
    )]
    entrypoint: Option<OsString>,
}

pub fn serve(app: &AppContext, mut args: Args) -> Result<u8> {
    if let Some(first) = args.command.words().and_then(<[OsString]>::first)
        && let Some(hint) = first.to_str().and_then(about_mount)
        && app.printer.style.verbose
    {
        bail!(Refusal::usage(format!("{first:?} is not a command")).hint(hint));
    }
    let app = &args.vm.provide_image(app)?;
    let mut request =
        args.vm.into_request(args.keep.keep(app)?, Some(process::identify_self()?))?;
    request.needed = args.command.timeout();
    let mut of_profile = None;
    if let Some(words) = args.command.words() {
        check_not_profile(app, &request.profile, words)?;
        let words = command_words(words, args.entrypoint.as_ref());
        match lifecycle::program_to_run(&app.settings, &request.profile, words)? {
            Ok(program) => of_profile = Some(program),
            // On a terminal and without a command, the login shell is run.
            Err(_) if args.command.take_terminal(app) => {}
            Err(refusal) => return Err(refusal.into()),
        }
    }
    let (mut exec, streams) = args.command.prepare(app)?;
    exec.program = of_profile.unwrap_or(exec.program);
    let program = exec.program.clone();
    let defaults = lifecycle::command_defaults(&app.settings, &request.profile)?;
    let manager = app.open()?;
    let mut copies = args.copies.prepare(&mut exec, defaults)?;
    let mut signals = PendingSignals::block()?;
    request.copied = copies.measure(app, &mut signals)?;
    let mut timings = PhaseTimings::begin();
    let command = ExecCommand { exec, streams, keep: Some(true), denials: app.denial_notes() };
    let options = args.start.options(StreamPurpose::Session);
    let mut remark = |remark| app.printer.remark(&remark);
    let mut caller =
        StartCaller { signals: &mut signals, timings: &mut timings, remark: &mut remark };
    // The files are read while the VM starts.
    let (plan, begun) = (copies.disk_copy(), Cell::new(None));
    let create = |signals: &mut PendingSignals, pool| {
        let new = create_vm(app, &manager, &CreateRequest { pool, ..request.clone() }, signals)?;
        // If it cannot be begun, the files are sent instead.
        let begin = |plan: DiskCopyPlan| plan.begin(&manager, new.record()).ok().flatten();
        begun.set(plan.clone().and_then(begin));
        Ok(new)
    };
    let run = lifecycle::run(&manager, options, &mut caller, create, |agent, signals, timings| {
        copies.copy_in(app, begun.take(), agent, signals, timings)?;
        let outcome = lifecycle::run_in(agent, command, signals, timings)?;
        let failed = match outcome.exit {
            // A command that did not start has made nothing to copy, and a VM that has ended sends nothing.
            CommandExit::NotStarted(_) | CommandExit::VmExpired | CommandExit::VmStopped => {
                Vec::new()
            }
            _ => copies.copy_out(app, &manager, agent, signals, timings),
        };
        Ok((outcome, failed))
    })?;
    let (vm, (outcome, failed)) = (run.vm.manifest.clone(), run.work);
    if run.cleanup.is_none() && !app.printer.style.json {
        let all = lifecycle::status_all(&manager, &[])?;
        let now = clock::now()?;
        // Another command may have deleted it.
        if let Some(kept) = all.iter().find(|other| *other.id() == vm.vm_id) {
            let left = TimeSpan::from_seconds(kept.expiry.remaining(&now).max(0.0));
            let name = vm.display_name();
            app.printer.note(&format!(
                "mayfly: kept VM {name} for {left}: 'mayfly shell {name}' opens a shell in it, \
                 'mayfly rm {name}' deletes it"
            ));
        }
    }
    let mut code = args.command.report(app, &vm, &program, outcome, run.cleanup, &timings)?;
    for error in &failed {
        let failure = ErrorReport::of_command(error);
        app.printer.failure(&failure);
        // The command's own exit code comes first, because scripts rely on it.
        if code == 0 {
            code = failure.exit_code;
        }
    }
    refill(app, &manager, &run.vm, &request);
    Ok(code)
}

/// Refuses a profile's name in the place of the command, where docker expects an image.
fn check_not_profile(app: &AppContext, profile: &str, words: &[OsString]) -> Result<(), Refusal> {
    let [word] = words else { return Ok(()) };
    let Some(word) = word.to_str().filter(|word| app.is_command_bare && app.has_profile(word))
    else {
        return Ok(());
    };
    let origin = ConfigKey::find("profile").map(|key| app.settings.explain(key).1);
    let is_command = match origin {
        Some(ValueOrigin::Flag) => true,
        None | Some(ValueOrigin::BuiltIn) => false,
        // A variable or file chose the profile, and the program may have the same name.
        Some(_) => word == profile,
    };
    if is_command {
        return Ok(());
    }
    Err(Refusal::usage(format!("{word:?} is a profile, not a command"))
        .hint(format!("write 'mayfly run -p {word}'")))
}

fn command_words(words: &[OsString], entrypoint: Option<&OsString>) -> CommandWords {
    CommandWords {
        words: words.iter().map(text).collect(),
        entrypoint: entrypoint
            .map(|program| (!program.is_empty()).then(|| text(program)).into_iter().collect()),
    }
}
