//! Global flags, the list of verbs, and the one `match` over them.

use std::path::PathBuf;

use anyhow::Result;
use clap::{Args, Parser, Subcommand};

use super::manual;
use crate::commands::{self, AppContext};
use crate::model::{Accelerator, BackendChoice};
use crate::output::ColorMode;

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
    pub(super) global: Global,
    #[command(subcommand)]
    pub(super) command: Command,
}

/// Flags that every verb takes.
#[derive(Debug, Args)]
#[command(next_help_heading = "Global options")]
pub struct Global {
    /// Keep the registry and the VMs' disks in DIR
    ///
    /// Default: $XDG_STATE_HOME/mayfly (~/.local/state/mayfly), as root /var/lib/mayfly.
    #[arg(long, global = true, value_name = "DIR", env = "MAYFLY_STATE_DIR")]
    pub state_dir: Option<PathBuf>,

    /// Run new VMs with this backend
    ///
    /// A VM keeps the backend it was created with.
    #[arg(
        long, global = true, value_name = "BACKEND", env = "MAYFLY_BACKEND",
        default_value_t = BackendChoice::Auto, value_enum
    )]
    pub backend: BackendChoice,

    /// Print JSON: data on stdout, errors on stderr
    #[arg(long, global = true)]
    pub json: bool,

    /// Print nothing but data and errors
    #[arg(short, long, global = true)]
    pub quiet: bool,

    /// Print what happens, with the time each phase took
    #[arg(short, long, global = true)]
    pub verbose: bool,

    /// Print in colours
    ///
    /// Never those of JSON, and not those of a command in a VM, which are its own.
    #[arg(
        long, global = true, value_name = "WHEN", env = "MAYFLY_COLOR",
        default_value_t = ColorMode::Auto, value_enum
    )]
    pub color: ColorMode,

    /// Images and templates
    #[arg(long, global = true, hide = true, value_name = "DIR", env = "MAYFLY_ARTIFACTS_DIR")]
    pub artifacts_dir: Option<PathBuf>,

    /// Sockets
    #[arg(long, global = true, hide = true, value_name = "DIR", env = "MAYFLY_RUNTIME_DIR")]
    pub runtime_dir: Option<PathBuf>,

    /// Where packages come from
    #[arg(long, global = true, hide = true, value_name = "URL", env = "MAYFLY_DEBIAN_MIRROR")]
    pub debian_mirror: Option<String>,

    /// One more profiles.toml, which wins over the others
    #[arg(long, global = true, hide = true, value_name = "FILE", env = "MAYFLY_PROFILES")]
    pub profiles: Option<PathBuf>,

    /// The accelerator new VMs must have
    #[arg(long, global = true, hide = true, value_enum, env = "MAYFLY_ACCEL")]
    pub accel: Option<Accelerator>,

    #[arg(long, global = true, hide = true, value_name = "FILE", env = "MAYFLY_QEMU_BIN")]
    pub qemu_bin: Option<PathBuf>,

    #[arg(long, global = true, hide = true, value_name = "FILE", env = "MAYFLY_FIRECRACKER_BIN")]
    pub firecracker_bin: Option<PathBuf>,

    #[arg(long, global = true, hide = true, value_name = "FILE", env = "MAYFLY_JAILER_BIN")]
    pub jailer_bin: Option<PathBuf>,

    #[arg(long, global = true, hide = true, value_name = "N", env = "MAYFLY_MAX_ACTIVE_VMS")]
    pub max_active_vms: Option<u32>,
}

#[derive(Debug, Subcommand)]
pub enum Command {
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
    pub fn serve(self, app: &AppContext) -> Result<u8> {
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
    pub fn answers_for_a_guest(&self) -> bool {
        matches!(self, Command::Run(_) | Command::Exec(_) | Command::Shell(_))
    }
}
