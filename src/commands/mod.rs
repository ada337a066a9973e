//! The verbs, a file each: its flags, and the function `serve` that turns them into a call of `lifecycle`
//! and prints the result.

pub mod completions;
pub mod config;
pub mod cp;
pub mod create;
pub mod df;
pub mod doctor;
pub mod exec;
pub mod extend;
pub mod image;
pub mod inspect;
pub mod logs;
pub mod pool;
pub mod port;
pub mod profiles;
pub mod reap;
pub mod rename;
pub mod rm;
pub mod run;
pub mod shell;
pub mod start;
pub mod status;
pub mod stop;
pub mod template;
pub mod wait;

mod app;
mod build_progress;
mod command_start;
mod each;
mod flags;

pub use app::AppContext;
pub use command_start::separate_command;

use anyhow::Result;
use clap::Subcommand;

/// Verbs that exit with the code of a command in the guest: for them, every failure of mayfly itself has
/// the exit code [`MAYFLY_FAILED`](crate::output::MAYFLY_FAILED).
pub const GUEST_VERBS: [&str; 3] = ["run", "exec", "shell"];

/// All verbs, in the order of the help.
#[derive(Debug, Subcommand)]
pub enum CliCommand {
    Run(Box<run::Args>),
    Create(create::Args),
    Start(start::Args),
    Exec(exec::Args),
    Shell(shell::Args),
    Cp(cp::Args),
    Stop(stop::Args),
    Rm(rm::Args),
    Logs(logs::Args),
    Wait(wait::Args),
    Extend(extend::Args),
    Rename(rename::Args),
    #[command(visible_aliases = ["ls", "ps"])]
    Status(status::Args),
    Inspect(inspect::Args),
    Port(port::Args),
    Df(df::Args),
    Reap(reap::Args),
    Profiles(profiles::Args),
    Config(config::Args),
    Image(image::Args),
    Template(template::Args),
    Pool(pool::Args),
    Doctor(doctor::Args),
    Completions(completions::Args),
}

impl CliCommand {
    /// Runs the verb and returns the exit code.
    pub fn serve(self, app: &AppContext) -> Result<u8> {
        match self {
            CliCommand::Run(args) => run::serve(app, *args),
            CliCommand::Create(args) => create::serve(app, args),
            CliCommand::Start(args) => start::serve(app, args),
            CliCommand::Exec(args) => exec::serve(app, args),
            CliCommand::Shell(args) => shell::serve(app, args),
            CliCommand::Cp(args) => cp::serve(app, args),
            CliCommand::Stop(args) => stop::serve(app, args),
            CliCommand::Rm(args) => rm::serve(app, args),
            CliCommand::Logs(args) => logs::serve(app, args),
            CliCommand::Wait(args) => wait::serve(app, args),
            CliCommand::Extend(args) => extend::serve(app, args),
            CliCommand::Rename(args) => rename::serve(app, args),
            CliCommand::Status(args) => status::serve(app, args),
            CliCommand::Inspect(args) => inspect::serve(app, args),
            CliCommand::Port(args) => port::serve(app, args),
            CliCommand::Df(args) => df::serve(app, args),
            CliCommand::Reap(args) => reap::serve(app, args),
            CliCommand::Config(args) => config::serve(app, args),
            CliCommand::Profiles(args) => profiles::serve(app, args),
            CliCommand::Image(args) => image::serve(app, args),
            CliCommand::Template(args) => template::serve(app, args),
            CliCommand::Pool(args) => pool::serve(app, args),
            CliCommand::Doctor(args) => doctor::serve(app, args),
            CliCommand::Completions(args) => completions::serve(app, args),
        }
    }
}
