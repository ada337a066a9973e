//! The command line as a whole: global flags, the list of verbs, and the one `match` over them.

mod manual;
mod tree;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::error::ErrorKind;
use clap::parser::ValueSource;
use clap::{ArgMatches, Args, FromArgMatches, Parser, Subcommand, ValueEnum};

use crate::commands::{self, App};
use crate::host::gate;
use crate::image;
use crate::model::{Accelerator, BackendChoice};
use crate::output::{Color, Failure, MAYFLY_FAILED, Printer, Style};
use crate::settings::{Config, KEYS, Key, Overrides, Settings, Sources};

/// Run commands in throwaway virtual machines.
///
/// Each VM has a kernel of its own, boots a Debian image that was built on this host, and is deleted
/// after its command. There is no daemon, and no need to be root or to have KVM; without KVM the
/// machine is emulated, which is slower and no security boundary. 'mayfly doctor' says what a host
/// can do.
#[derive(Debug, Parser)]
#[command(name = "mayfly", version, max_term_width = 100)]
#[command(after_help = manual::EXAMPLES)]
#[command(after_long_help = format!("{}\n\n{}", manual::EXAMPLES, manual::REFERENCE))]
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
    #[arg(long, global = true, value_name = "DIR", env = "MAYFLY_STATE_DIR")]
    state_dir: Option<PathBuf>,

    /// Run new VMs with this backend
    ///
    /// A VM keeps the backend it was created with.
    #[arg(
        long, global = true, value_name = "BACKEND", env = "MAYFLY_BACKEND",
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

    /// Print in colours
    ///
    /// Never those of JSON, and not those of a command in a VM, which are its own.
    #[arg(
        long, global = true, value_name = "WHEN", env = "MAYFLY_COLOR",
        default_value_t = Color::Auto, value_enum
    )]
    color: Color,

    /// Images and templates
    #[arg(long, global = true, hide = true, value_name = "DIR", env = "MAYFLY_ARTIFACTS_DIR")]
    artifacts_dir: Option<PathBuf>,

    /// Sockets
    #[arg(long, global = true, hide = true, value_name = "DIR", env = "MAYFLY_RUNTIME_DIR")]
    runtime_dir: Option<PathBuf>,

    /// Where packages come from
    #[arg(long, global = true, hide = true, value_name = "URL", env = "MAYFLY_DEBIAN_MIRROR")]
    debian_mirror: Option<String>,

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
    Shell(commands::shell::Args),
    Cp(commands::cp::Args),
    Stop(commands::stop::Args),
    Rm(commands::rm::Args),
    Logs(commands::logs::Args),
    Wait(commands::wait::Args),
    Extend(commands::extend::Args),
    Rename(commands::rename::Args),
    Status(commands::status::Args),
    Reap(commands::reap::Args),
    Profiles(commands::profiles::Args),
    Config(commands::config::Args),
    Image(commands::image::Args),
    Template(commands::template::Args),
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
            Command::Shell(args) => commands::shell::serve(app, args),
            Command::Cp(args) => commands::cp::serve(app, args),
            Command::Stop(args) => commands::stop::serve(app, args),
            Command::Rm(args) => commands::rm::serve(app, args),
            Command::Logs(args) => commands::logs::serve(app, args),
            Command::Wait(args) => commands::wait::serve(app, args),
            Command::Extend(args) => commands::extend::serve(app, args),
            Command::Rename(args) => commands::rename::serve(app, args),
            Command::Status(args) => commands::status::serve(app, args),
            Command::Reap(args) => commands::reap::serve(app, args),
            Command::Config(args) => commands::config::serve(app, args),
            Command::Profiles(args) => commands::profiles::serve(app, args),
            Command::Image(args) => commands::image::serve(app, args),
            Command::Template(args) => commands::template::serve(app, args),
            Command::Doctor(args) => commands::doctor::serve(app, args),
            Command::Completions(args) => commands::completions::serve(app, args),
        }
    }

    /// Whether the verb's exit codes are those of a command in a guest.
    fn answers_for_a_guest(&self) -> bool {
        matches!(self, Command::Run(_) | Command::Exec(_) | Command::Shell(_))
    }
}

/// The command tree, for completions and man pages.
pub fn command() -> clap::Command {
    tree::tree(&Config::default())
}

/// Runs one command line and gives its exit status. This is the whole program.
pub fn run(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let args: Vec<OsString> = args.into_iter().collect();
    if args.get(1).is_some_and(|argument| argument == gate::ARGUMENT) {
        return become_vmm();
    }
    if args.get(1).is_some_and(|argument| argument == image::UNPACK) {
        return exit_after(image::unpack());
    }
    // A file with a mistake in it must not hide what is wrong with the command line, nor its help.
    let config = Config::load();
    let no_config = Config::default();
    let usable = config.as_ref().unwrap_or(&no_config);
    commands::completions::answer_shell(
        &args,
        || tree::tree(usable),
        |typed| Global::from_arg_matches(typed).map(overrides).unwrap_or_default(),
    );
    let color = color_asked(&args, usable);
    let tree = tree::tree(usable);
    let matches = match tree.color(color.into()).try_get_matches_from(&args) {
        Ok(matches) => matches,
        Err(error) => return usage(&error, &args, color),
    };
    let cli = match Cli::from_arg_matches(&matches) {
        Ok(cli) => cli,
        Err(error) => return usage(&error, &args, color),
    };
    let global = &cli.global;
    let style = Style {
        json: global.json,
        quiet: global.quiet,
        verbose: global.verbose,
        color: global.color,
    };
    let printer = Printer { style };
    let for_a_guest = cli.command.answers_for_a_guest();
    let served = config
        .and_then(|config| {
            let sources = Sources { flags: flags(&matches), config };
            Settings::resolve(overrides(cli.global), sources)
        })
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

/// What was typed, by key.
fn flags(matches: &ArgMatches) -> BTreeMap<&'static str, OsString> {
    // The others are the verbs' own, and nobody asks for their origin.
    let typed = |key: &&Key| {
        matches.try_contains_id(key.name).unwrap_or(false)
            && matches.value_source(key.name) == Some(ValueSource::CommandLine)
    };
    let keys = KEYS.iter().filter(typed);
    keys.filter_map(|key| Some((key.name, matches.get_raw(key.name)?.next_back()?.to_owned())))
        .collect()
}

fn overrides(global: Global) -> Overrides {
    Overrides {
        state_dir: global.state_dir,
        artifacts_dir: global.artifacts_dir,
        runtime_dir: global.runtime_dir,
        profiles: global.profiles,
        backend: global.backend,
        accelerator: global.accel,
        debian_mirror: global.debian_mirror,
        qemu_bin: global.qemu_bin,
        firecracker_bin: global.firecracker_bin,
        jailer_bin: global.jailer_bin,
        max_active_vms: global.max_active_vms,
    }
}

/// What is mayfly's own of a command line: past `--` everything is the guest's.
fn own(args: &[OsString]) -> impl Iterator<Item = &str> {
    args.iter().skip(1).take_while(|arg| *arg != "--").map(|arg| arg.to_str().unwrap_or_default())
}

/// The `--color` of a command line that has yet to be parsed, for what the parser prints itself.
fn color_asked(args: &[OsString], config: &Config) -> Color {
    let set = Key::find("color").and_then(|key| config.or_variable(key));
    let set = set.and_then(|(value, _)| Color::from_str(value.to_str()?, false).ok());
    let mut asked = set.unwrap_or_default();
    let mut words = own(args).peekable();
    while let Some(word) = words.next() {
        let value = match word {
            "--color" => words.peek().copied(),
            word => word.strip_prefix("--color="),
        };
        asked = value.and_then(|value| Color::from_str(value, false).ok()).unwrap_or(asked);
    }
    asked
}

/// Help and version are answers; everything else the parser says is an error of usage.
fn usage(error: &clap::Error, args: &[OsString], color: Color) -> ExitCode {
    if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) {
        let _ = error.print();
        return ExitCode::SUCCESS;
    }
    let partly = command().ignore_errors(true).try_get_matches_from(args);
    let verb = partly.ok().and_then(|matches| matches.subcommand_name().map(str::to_owned));
    let exit_code = match verb.as_deref() {
        Some("exec" | "run" | "shell") => MAYFLY_FAILED,
        _ => 2,
    };
    let asks_for_help = matches!(
        error.kind(),
        ErrorKind::MissingSubcommand | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand
    );
    let json = own(args).any(|arg| arg == "--json");
    if asks_for_help && !json {
        let mut tree = command();
        tree.build();
        let node = verb.as_deref().and_then(|verb| tree.find_subcommand_mut(verb));
        let help = match node {
            Some(node) => node.render_help(),
            None => tree.render_help(),
        };
        Printer { style: Style::default() }.verdict(help.to_string().trim_end());
        return exit_code.into();
    }
    let failure = Failure::of_usage(error, verb.as_deref(), exit_code);
    Printer { style: Style { json, color, ..Style::default() } }.failure(&failure);
    exit_code.into()
}

fn become_vmm() -> ExitCode {
    let Err(error) = gate::wait_and_become();
    // Standard error is the VMM's log here.
    exit_after(Err(error))
}

/// For what our own program does in other processes.
fn exit_after(work: Result<()>) -> ExitCode {
    match work {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            Printer { style: Style::default() }.failure(&Failure::of(&error));
            ExitCode::FAILURE
        }
    }
}
