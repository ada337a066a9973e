//! `mayfly completions`, and the answers to the scripts it prints.

mod bash;
pub(super) mod candidates;
mod guest_paths;

use std::ffi::OsString;
use std::io::Write;
use std::path::Path;

use anyhow::{Context, Result, bail};
use clap::{Command, FromArgMatches, ValueEnum};
use clap_complete::env::{EnvCompleter, Fish, Shells, Zsh};

use crate::commands::AppContext;
use crate::commands::command_start::command_start;
use crate::model::Refusal;
use crate::settings::SettingOverrides;

/// The variable with which a completion script calls mayfly. Not clap's own `COMPLETE`: every command would
/// fail if another program set a name that common.
pub const VARIABLE: &str = "MAYFLY_COMPLETE";

/// The supported shells.
const SHELLS: Shells<'static> =
    Shells(&[&bash::BashCompleter, &LineShell(&Zsh), &LineShell(&Fish)]);

/// clap's own script adds a space after a directory in a VM, because of the colon before it.
const ZSH_SCRIPT: &str = r#"#compdef NAME
_mayfly() {
    local answer
    local -a answers whole partial
    answers=("${(@f)$(
        _CLAP_IFS=$'\n' _CLAP_COMPLETE_INDEX=$((CURRENT - 1)) VARIABLE=zsh COMPLETER -- "${words[@]}" 2> /dev/null
    )}")
    for answer in $answers; do
        # The description begins at the first colon that is not escaped.
        if [[ ${(M)answer##(\\?|[^\\:])#} == *[=/:] ]]; then partial+=("$answer"); else whole+=("$answer"); fi
    done
    # A word that is not complete yet gets no space.
    (( $#partial )) && _describe -V values partial -S ''
    (( $#whole )) && _describe -V values whole
}
if [[ ${funcstack[1]-} == _mayfly ]]; then _mayfly "$@"; else compdef _mayfly NAME; fi"#;

/// Print a shell's completion script
///
/// The script calls mayfly, which completes names of VMs, profiles and templates as well as verbs and flags.
/// To use it at once in a shell, run 'source <(mayfly completions bash)'.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  mayfly completions bash > ~/.local/share/bash-completion/completions/mayfly
  mayfly completions zsh > ~/.zfunc/_mayfly
  mayfly completions fish > ~/.config/fish/completions/mayfly.fish")]
pub struct Args {
    /// Shell to print the script for
    #[arg(value_enum)]
    shell: ShellKind,
}

/// The supported shells, as values of the argument.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum ShellKind {
    Bash,
    Zsh,
    Fish,
}

/// The completion script of a shell.
pub fn script(shell: ShellKind) -> Result<String> {
    let name = shell.to_possible_value().context("the shell has no name")?;
    let completer = SHELLS.completer(name.get_name()).context("the shell has no completer")?;
    let mut script = Vec::new();
    completer
        .write_registration(VARIABLE, "mayfly", "mayfly", "mayfly", &mut script)
        .context("cannot write the script")?;
    String::from_utf8(script).context("the script is not UTF-8")
}

/// What to print if a completion script has called mayfly; `None` if none has.
pub fn answer_shell(args: &[OsString], tree: impl Fn() -> Command) -> Option<Result<Vec<u8>>> {
    let shell = std::env::var(VARIABLE).ok()?;
    Some(answer(&shell, args, tree))
}

/// As clap's own function, which prints by itself and does not wait for a non-blocking standard output.
fn answer(shell: &str, args: &[OsString], tree: impl Fn() -> Command) -> Result<Vec<u8>> {
    let completer =
        SHELLS.completer(shell).with_context(|| format!("{VARIABLE} names no supported shell"))?;
    let words: Vec<OsString> =
        args.iter().skip_while(|arg| *arg != "--").skip(1).cloned().collect();
    let parser = tree().ignore_errors(true);
    let matches = parser.clone().try_get_matches_from(&words);
    // With '--help' on the line, the parser returns the help instead of flags.
    let matches = matches.or_else(|_| parser.try_get_matches_from(["mayfly"]));
    if let Ok(matches) = matches {
        if let Ok(flags) = SettingOverrides::from_arg_matches(&matches) {
            candidates::set_flags(flags);
        }
        let copy = matches.subcommand_matches("cp");
        if let Some(user) = copy.and_then(|copy| copy.get_one::<String>("user")) {
            guest_paths::set_user(user.clone());
        }
    }
    let directory = std::env::current_dir().ok();
    let (mut tree, mut answer) = (tree(), Vec::new());
    tree.build();
    completer
        .write_complete(&mut tree, words, directory.as_deref(), &mut answer)
        .context("cannot complete the command line")?;
    Ok(answer)
}

pub fn serve(app: &AppContext, args: Args) -> Result<u8> {
    if app.printer.style.json {
        let refusal = Refusal::usage("'completions' cannot be used with '--json'");
        bail!(refusal.hint("a shell's script is not data: leave out '--json'"));
    }
    app.printer.data(script(args.shell)?.trim_end())?;
    Ok(0)
}

/// A shell that passes words as they were typed and expects a candidate per line. The candidates are filtered by
/// [`candidates::is_wanted`].
struct LineShell(&'static (dyn EnvCompleter + Sync));

impl EnvCompleter for LineShell {
    fn name(&self) -> &'static str {
        self.0.name()
    }

    fn is(&self, name: &str) -> bool {
        self.0.is(name)
    }

    fn write_registration(
        &self,
        variable: &str,
        name: &str,
        bin: &str,
        completer: &str,
        out: &mut dyn Write,
    ) -> std::io::Result<()> {
        if self.name() != Zsh.name() {
            return self.0.write_registration(variable, name, bin, completer, out);
        }
        let script = ZSH_SCRIPT.replace("VARIABLE", variable).replace("COMPLETER", completer);
        writeln!(out, "{}", script.replace("NAME", name))
    }

    fn write_complete(
        &self,
        tree: &mut Command,
        words: Vec<OsString>,
        directory: Option<&Path>,
        out: &mut dyn Write,
    ) -> std::io::Result<()> {
        let mut words = words;
        // Zsh passes all words as they were typed, fish only the last one.
        let typed = if self.name() == Zsh.name() { 0 } else { words.len().saturating_sub(1) };
        words.iter_mut().skip(typed).for_each(remove_quotes);
        // Zsh passes the position of the cursor; fish passes only the words up to it.
        let at = std::env::var("_CLAP_COMPLETE_INDEX").ok().and_then(|index| index.parse().ok());
        let typed = at.map_or(words.last(), |at: usize| words.get(at)).cloned().unwrap_or_default();
        let current = at.unwrap_or(words.len().saturating_sub(1));
        if command_start(tree, &words).is_some_and(|start| start <= current) {
            return Ok(());
        }
        let mut answer = Vec::new();
        self.0.write_complete(tree, words, directory, &mut answer)?;
        // Both expect one candidate per line.
        let answer = String::from_utf8_lossy(&answer);
        let typed = typed.to_string_lossy();
        let wanted: Vec<&str> =
            answer.lines().filter(|line| candidates::is_wanted(line, &typed)).collect();
        out.write_all(wanted.join("\n").as_bytes())
    }
}

/// Turns a word into what the command would receive; one that is not UTF-8 stays as it is.
fn remove_quotes(word: &mut OsString) {
    if let Some(text) = word.to_str() {
        *word = bash::unquoted(text).into();
    }
}
