//! Parsing the command line, running the verb, and reporting errors.

mod args;
mod help;
mod manual;
mod tree;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::iter::successors;
use std::process::ExitCode;

use anyhow::Result;
use clap::error::ErrorKind;
use clap::parser::ValueSource;
use clap::{ArgMatches, FromArgMatches, ValueEnum};

use self::args::Cli;
use crate::commands::{self, AppContext};
use crate::host::{confinement, launcher};
use crate::import;
use crate::model::RefusalKind;
use crate::output::{ColorMode, ErrorReport, MAYFLY_FAILED, PrintStyle, Printer};
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
        Err(error) => return report_usage(error, &args, usable, color),
    };
    let printer = Printer { style: cli.style };
    let served = config
        .and_then(|config| {
            Settings::resolve(cli.settings, SettingSources { flags: flags_given(&matches), config })
        })
        .and_then(|settings| cli.command.serve(&AppContext { settings, printer, is_command_bare }));
    match served {
        Ok(code) => code.into(),
        Err(error) => fail(printer, &error, matches.subcommand_name()),
    }
}

/// Prints an error, and returns the exit status for it.
fn fail(printer: Printer, error: &anyhow::Error, verb: Option<&str>) -> ExitCode {
    let failure =
        if is_guest_verb(verb) { ErrorReport::of_command(error) } else { ErrorReport::of(error) };
    printer.failure(&failure);
    failure.exit_code.into()
}

fn is_guest_verb(verb: Option<&str>) -> bool {
    verb.is_some_and(|verb| commands::GUEST_VERBS.contains(&verb))
}

/// The values of settings that were given as flags.
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

/// The arguments before `--`; all others belong to the guest's command.
fn arguments_before_guest(args: &[OsString]) -> impl Iterator<Item = &str> {
    args.iter().skip(1).take_while(|arg| *arg != "--").map(|arg| arg.to_str().unwrap_or_default())
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

/// Prints what the parser says: help or the version, or else a usage error.
fn report_usage(
    error: clap::Error,
    args: &[OsString],
    config: &ConfigFiles,
    color: ColorMode,
) -> ExitCode {
    if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) {
        let is_detailed = args.get(1).is_some_and(|verb| verb == "help")
            || arguments_before_guest(args).any(|arg| arg == "--help");
        let tree = help::with_verbs_help(tree::tree(config), is_detailed);
        let error = tree.color(color.into()).try_get_matches_from(args).err().unwrap_or(error);
        let printer = Printer { style: PrintStyle { color, ..PrintStyle::default() } };
        let text = color.on_stdout().styled(&error.render());
        return match printer.stream(text.as_bytes()) {
            Ok(_) => ExitCode::SUCCESS,
            Err(error) => fail(printer, &error, None),
        };
    }
    let partly = command().ignore_errors(true).try_get_matches_from(args);
    let verb = partly.ok().and_then(|matches| matches.subcommand_name().map(str::to_owned));
    let exit_code =
        if is_guest_verb(verb.as_deref()) { MAYFLY_FAILED } else { RefusalKind::Usage.exit_code() };
    let asks_for_help = matches!(
        error.kind(),
        ErrorKind::MissingSubcommand | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand
    );
    let json = arguments_before_guest(args).any(|arg| arg == "--json");
    if asks_for_help && !json {
        let mut tree = help::with_verbs_help(tree::tree(config), false);
        tree.build();
        let node = verb.as_deref().and_then(|verb| tree.find_subcommand_mut(verb));
        let help = match node {
            Some(node) => node.render_help(),
            None => tree.render_help(),
        };
        let printer = Printer { style: PrintStyle::default() };
        help.to_string().trim_end().lines().for_each(|line| printer.verdict(line));
        return exit_code.into();
    }
    let failure = ErrorReport::of_usage(&error, verb.as_deref(), exit_code);
    Printer { style: PrintStyle { json, color, ..PrintStyle::default() } }.failure(&failure);
    exit_code.into()
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
