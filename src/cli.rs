//! Parsing the command line, running the verb, and reporting errors.

mod args;
mod help;
mod manual;
mod tree;
mod usage;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::iter::successors;
use std::process::ExitCode;

use anyhow::Result;
use clap::parser::ValueSource;
use clap::{ArgMatches, FromArgMatches, ValueEnum};

use self::args::Cli;
use self::usage::{arguments_before_guest, fail};
use crate::commands::{self, AppContext};
use crate::host::{confinement, launcher};
use crate::import;
use crate::network;
use crate::output::{ColorMode, ErrorReport, PrintStyle, Printer, remember_state_dir};
use crate::settings::{ConfigFiles, ConfigKey, KEYS, SettingSources, Settings};

/// The definition of the command line, for completions and man pages.
pub fn command() -> clap::Command {
    tree::tree(&ConfigFiles::default())
}

/// Parses a command line as the program does, without settings files.
///
/// # Errors
/// Those of the parser.
pub fn parse(words: &[OsString]) -> Result<ArgMatches, clap::Error> {
    let (tree, mut words) = (command(), words.to_vec());
    commands::separate_command(&tree, &mut words);
    tree.try_get_matches_from(words)
}

/// Runs one command line and returns the exit status. This is the whole program.
pub fn run(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let mut args: Vec<OsString> = args.into_iter().collect();
    if args.get(1).is_some_and(|argument| argument == launcher::ARGUMENT) {
        let Err(error) = launcher::wait_and_become();
        // Standard error is the VMM's log.
        return exit_after(Err(error));
    }
    if let Err(error) = confinement::serve(&args) {
        return exit_after(Err(error));
    }
    if args.get(1).is_some_and(|argument| argument == import::ARGUMENT) {
        return exit_after(import::serve());
    }
    if args.get(1).is_some_and(|argument| argument == network::ARGUMENT) {
        return exit_after(network::serve(&args));
    }
    // An invalid settings file must hide neither the help nor a mistake on the command line.
    let config = ConfigFiles::load();
    let no_config = ConfigFiles::default();
    let usable = config.as_ref().unwrap_or(&no_config);
    if let Some(answer) = commands::completions::answer_shell(&args, || tree::tree(usable)) {
        let printer = Printer { style: PrintStyle::default() };
        return exit_after(answer.and_then(|answer| printer.stream(&answer).map(drop)));
    }
    let tree = tree::tree(usable);
    let is_command_bare = commands::separate_command(&tree, &mut args);
    let color = requested_color(&args, usable);
    let matches = tree.color(color.into()).try_get_matches_from(&args);
    let (matches, cli) = match matches
        .and_then(|matches| Cli::from_arg_matches(&matches).map(|cli| (matches, cli)))
    {
        Ok(parsed) => parsed,
        Err(error) => return usage::report(error, &args, color, usable),
    };
    let printer = Printer { style: cli.style };
    let flags = flags_given(&matches);
    if let Some(directory) = flags.get("state_dir") {
        remember_state_dir(directory);
    }
    let served = config
        .and_then(|config| Settings::resolve(cli.settings, SettingSources { flags, config }))
        .and_then(|settings| cli.command.serve(&AppContext { settings, printer, is_command_bare }));
    match served {
        Ok(code) => code.into(),
        Err(error) => fail(printer, &error, matches.subcommand_name()),
    }
}

/// The values of settings that were given as flags, of mayfly or of the verb.
fn flags_given(matches: &ArgMatches) -> BTreeMap<&'static str, OsString> {
    let levels = || successors(Some(matches), |level| level.subcommand().map(|(_, below)| below));
    // A key that is not an argument's id here belongs to other verbs.
    let is_typed = |level: &ArgMatches, key: &ConfigKey| {
        level.try_contains_id(key.name).unwrap_or(false)
            && level.value_source(key.name) == Some(ValueSource::CommandLine)
    };
    let value = |key: &ConfigKey| {
        let level = levels().find(|level| is_typed(level, key))?;
        Some((key.name, level.get_raw(key.name)?.next_back()?.to_owned()))
    };
    KEYS.iter().filter_map(value).collect()
}

/// The `--color` of a command line that is not parsed yet, for what the parser itself prints.
fn requested_color(args: &[OsString], config: &ConfigFiles) -> ColorMode {
    let set = ConfigKey::find("color").and_then(|key| config.or_variable(key));
    let set = set.and_then(|(value, _)| ColorMode::from_str(value.to_str()?, false).ok());
    let mut requested = set.unwrap_or_default();
    let mut words = arguments_before_guest(args).peekable();
    while let Some(word) = words.next() {
        let value = match word {
            "--color" => words.peek().copied(),
            word => word.strip_prefix("--color="),
        };
        requested =
            value.and_then(|value| ColorMode::from_str(value, false).ok()).unwrap_or(requested);
    }
    requested
}

/// The exit status of work that mayfly does as another process.
fn exit_after(work: Result<()>) -> ExitCode {
    match work {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            Printer { style: PrintStyle::default() }.failure(&ErrorReport::of(&error));
            ExitCode::FAILURE
        }
    }
}
