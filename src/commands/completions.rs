//! `mayfly completions`.

use std::ffi::OsString;

use anyhow::{Context, Result};
use clap_complete::CompleteEnv;
use clap_complete::env::Shells;

use super::App;

const EXAMPLES: &str = "\
Examples:
  mayfly completions bash > ~/.local/share/bash-completion/completions/mayfly
  mayfly completions zsh > ~/.zfunc/_mayfly
  mayfly completions fish > ~/.config/fish/completions/mayfly.fish";

/// The variable by which a completion script asks the program. Not clap's own `COMPLETE`: with a name
/// so common set by anything else, every command would fail.
pub const VARIABLE: &str = "MAYFLY_COMPLETE";

/// Print a shell's completion script
///
/// The script asks mayfly itself, so that ids and names of VMs complete as well as flags.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// The shell to print it for
    #[arg(value_enum)]
    shell: Shell,
}

/// Shells there is a script for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Shell {
    Bash,
    Zsh,
    Fish,
}

impl Shell {
    fn name(self) -> &'static str {
        match self {
            Shell::Bash => "bash",
            Shell::Zsh => "zsh",
            Shell::Fish => "fish",
        }
    }
}

/// The completion script of a shell.
pub fn script(shell: Shell) -> Result<String> {
    let shells = Shells::builtins();
    let completer = shells.completer(shell.name()).context("the shell has no completer")?;
    let mut script = Vec::new();
    completer
        .write_registration(VARIABLE, "mayfly", "mayfly", "mayfly", &mut script)
        .context("cannot write the script")?;
    String::from_utf8(script).context("the script is not UTF-8")
}

/// Answers a completion script and ends the program, if it is one that asks.
pub fn answer_shell(args: &[OsString], tree: fn() -> clap::Command) {
    if std::env::var_os(VARIABLE).is_some() {
        let answered = CompleteEnv::with_factory(tree).var(VARIABLE).try_complete(args, None);
        match answered {
            Ok(true) => std::process::exit(0),
            Ok(false) => {}
            Err(error) => error.exit(),
        }
    }
}

pub fn serve(app: &App, args: Args) -> Result<u8> {
    app.printer.data(script(args.shell)?.trim_end())?;
    Ok(0)
}
