//! The command line as a whole: global flags, the list of verbs, and the one `match` over them.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::error::ErrorKind;
use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand};

use crate::commands::{self, App};
use crate::host::gate;
use crate::model::{Accelerator, BackendChoice};
use crate::output::{Failure, MAYFLY_FAILED, Printer, Style};
use crate::settings::{Overrides, Settings};

const EXAMPLES: &str = "\
Examples:
  mayfly run -- uname -a                        a command in a machine of its own
  mayfly run --profile debian-build -- cc -v    with a compiler
  echo hello | mayfly run -i -- cat             with standard input
  vm=$(mayfly create) && mayfly start $vm       the same in steps:
  mayfly exec --keep $vm -- ls /
  mayfly rm $vm

Exit codes:
  0 success, 1 failure, 2 usage, 3 no such VM or profile or expired, 4 wrong state or name taken,
  5 limit reached or busy, 6 host or backend cannot do it.
  exec and run: the command's own; 124 timed out, 125 mayfly failed, 126 not executable,
  127 not found, 128+N killed by signal N.";

/// Run commands in throwaway virtual machines.
///
/// Each VM has a kernel of its own, boots a Debian image built on this host, and is deleted after its
/// command. There is no daemon and no need for root, KVM or a network connection of the guest.
#[derive(Debug, Parser)]
#[command(name = "mayfly", version, after_help = EXAMPLES, max_term_width = 100)]
#[command(subcommand_required = true, arg_required_else_help = true)]
pub struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

/// Flags that every verb takes.
#[derive(Debug, Args)]
#[command(next_help_heading = "Global options")]
struct Global {
    /// Keep the registry and the VMs' disks in DIR
    ///
    /// Default: $XDG_STATE_HOME/mayfly (~/.local/state/mayfly), as root /var/lib/mayfly.
    #[arg(
        long,
        global = true,
        value_name = "DIR",
        env = "MAYFLY_STATE_DIR",
        hide_env_values = true
    )]
    state_dir: Option<PathBuf>,

    /// Run new VMs with this backend
    ///
    /// auto is the best real one that works here. mock runs commands as plain host processes, without
    /// any isolation; it is for developing and is never chosen by auto.
    #[arg(
        long, global = true, value_name = "BACKEND", env = "MAYFLY_BACKEND", hide_env_values = true,
        default_value_t = BackendChoice::Auto, value_enum
    )]
    backend: BackendChoice,

    /// Print JSON: data on stdout, errors on stderr
    #[arg(long, global = true)]
    json: bool,

    /// Print nothing but data and errors
    #[arg(short, long, global = true)]
    quiet: bool,

    /// Print what happens, with the time each phase took
    #[arg(short, long, global = true)]
    verbose: bool,

    /// Images and templates
    #[arg(long, global = true, hide = true, value_name = "DIR", env = "MAYFLY_ARTIFACTS_DIR")]
    artifacts_dir: Option<PathBuf>,

    /// One more profiles.toml, which wins over the others
    #[arg(long, global = true, hide = true, value_name = "FILE", env = "MAYFLY_PROFILES")]
    profiles: Option<PathBuf>,

    /// The accelerator new VMs must have
    #[arg(long, global = true, hide = true, value_enum, env = "MAYFLY_ACCEL")]
    accel: Option<Accelerator>,

    #[arg(long, global = true, hide = true, value_name = "FILE", env = "MAYFLY_QEMU_BIN")]
    qemu_bin: Option<PathBuf>,

    #[arg(long, global = true, hide = true, value_name = "FILE", env = "MAYFLY_FIRECRACKER_BIN")]
    firecracker_bin: Option<PathBuf>,

    #[arg(long, global = true, hide = true, value_name = "FILE", env = "MAYFLY_JAILER_BIN")]
    jailer_bin: Option<PathBuf>,

    #[arg(long, global = true, hide = true, value_name = "N", env = "MAYFLY_MAX_ACTIVE_VMS")]
    max_active_vms: Option<u32>,
}

#[derive(Debug, Subcommand)]
enum Command {
    Run(commands::run::Args),
    Create(commands::create::Args),
    Start(commands::start::Args),
    Exec(commands::exec::Args),
    Stop(commands::stop::Args),
    Rm(commands::rm::Args),
    Status(commands::status::Args),
    Reap(commands::reap::Args),
    Profiles(commands::profiles::Args),
    Image(commands::image::Args),
    Doctor(commands::doctor::Args),
    Completions(commands::completions::Args),
}

impl Command {
    fn serve(self, app: &App) -> Result<u8> {
        match self {
            Command::Run(args) => commands::run::serve(app, args),
            Command::Create(args) => commands::create::serve(app, args),
            Command::Start(args) => commands::start::serve(app, args),
            Command::Exec(args) => commands::exec::serve(app, args),
            Command::Stop(args) => commands::stop::serve(app, args),
            Command::Rm(args) => commands::rm::serve(app, args),
            Command::Status(args) => commands::status::serve(app, args),
            Command::Reap(args) => commands::reap::serve(app, args),
            Command::Profiles(args) => commands::profiles::serve(app, args),
            Command::Image(args) => commands::image::serve(app, args),
            Command::Doctor(args) => commands::doctor::serve(app, args),
            Command::Completions(args) => commands::completions::serve(app, args),
        }
    }

    /// Whether the verb's exit codes are those of a command in a guest.
    fn answers_for_a_guest(&self) -> bool {
        matches!(self, Command::Run(_) | Command::Exec(_))
    }
}

/// The command tree, for completions and man pages.
pub fn command() -> clap::Command {
    Cli::command()
}

/// Runs one command line and gives its exit status. This is the whole program.
pub fn run(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let args: Vec<OsString> = args.into_iter().collect();
    if args.get(1).is_some_and(|argument| argument == gate::ARGUMENT) {
        return become_vmm();
    }
    commands::completions::answer_shell(&args, command);
    let matches = match command().try_get_matches_from(&args) {
        Ok(matches) => matches,
        Err(error) => return usage(&error, &args),
    };
    let cli = match Cli::from_arg_matches(&matches) {
        Ok(cli) => cli,
        Err(error) => return usage(&error, &args),
    };
    let style =
        Style { json: cli.global.json, quiet: cli.global.quiet, verbose: cli.global.verbose };
    let printer = Printer { style };
    let for_a_guest = cli.command.answers_for_a_guest();
    let served = Settings::resolve(overrides(cli.global))
        .and_then(|settings| cli.command.serve(&App { settings, printer }));
    match served {
        Ok(code) => code.into(),
        Err(error) => {
            let failure = match for_a_guest {
                true => Failure::of_command(&error),
                false => Failure::of(&error),
            };
            printer.failure(&failure);
            failure.exit_code.into()
        }
    }
}

fn overrides(global: Global) -> Overrides {
    Overrides {
        state_dir: global.state_dir,
        artifacts_dir: global.artifacts_dir,
        profiles: global.profiles,
        backend: global.backend,
        accelerator: global.accel,
        qemu_bin: global.qemu_bin,
        firecracker_bin: global.firecracker_bin,
        jailer_bin: global.jailer_bin,
        max_active_vms: global.max_active_vms,
    }
}

/// Help and version are answers; everything else the parser says is an error of usage.
fn usage(error: &clap::Error, args: &[OsString]) -> ExitCode {
    if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) {
        let _ = error.print();
        return ExitCode::SUCCESS;
    }
    // Past `--` everything is the guest's.
    let mine: Vec<&OsString> = args.iter().skip(1).take_while(|arg| *arg != "--").collect();
    let partly = command().ignore_errors(true).try_get_matches_from(args);
    let verb = partly.ok().and_then(|matches| matches.subcommand_name().map(str::to_owned));
    let exit_code = match verb.as_deref() {
        Some("exec" | "run") => MAYFLY_FAILED,
        _ => 2,
    };
    if mine.iter().any(|arg| *arg == "--json") {
        let style = Style { json: true, ..Style::default() };
        let message = error.render().to_string().trim_end().to_owned();
        let failure = Failure { kind: "usage", message, hint: None, exit_code };
        Printer { style }.failure(&failure);
    } else {
        let _ = error.print();
    }
    exit_code.into()
}

fn become_vmm() -> ExitCode {
    let Err(error) = gate::wait_and_become();
    // Standard error is the VMM's log here.
    Printer { style: Style::default() }.failure(&Failure::of(&error));
    ExitCode::FAILURE
}
