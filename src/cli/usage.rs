//! Command lines that the parser does not accept.

use std::ffi::OsString;
use std::process::ExitCode;

use clap::ArgMatches;
use clap::error::{ContextKind, ErrorKind};

use super::{help, tree};
use crate::commands;
use crate::model::RefusalKind;
use crate::output::{ColorMode, ErrorReport, MAYFLY_FAILED, PrintStyle, Printer, UsageMistake};
use crate::settings::{ConfigFiles, ConfigKey, KEYS, ValueOrigin};

/// Prints what the parser says: help or the version, or else a usage error.
pub(super) fn report(
    error: clap::Error,
    args: &[OsString],
    color: ColorMode,
    config: &ConfigFiles,
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
    let partly = tree::tree(config).ignore_errors(true).try_get_matches_from(args);
    let mut verbs = Vec::new();
    let mut matches = partly.as_ref().ok();
    while let Some((verb, below)) = matches.and_then(ArgMatches::subcommand) {
        verbs.push(verb);
        matches = Some(below);
    }
    let below = |root: clap::Command| {
        let mut root = root;
        root.build();
        let found = verbs.iter().try_fold(&mut root, |node, verb| node.find_subcommand_mut(verb));
        found.cloned().unwrap_or(root)
    };
    let exit_code = if is_guest_verb(verbs.first().copied()) {
        MAYFLY_FAILED
    } else {
        RefusalKind::Usage.exit_code()
    };
    let asks_for_help = matches!(
        error.kind(),
        ErrorKind::MissingSubcommand | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand
    );
    let json = arguments_before_guest(args).any(|arg| arg == "--json");
    if asks_for_help && !json {
        let help = below(help::with_verbs_help(tree::tree(config), false)).render_help();
        let printer = Printer { style: PrintStyle::default() };
        help.to_string().trim_end().lines().for_each(|line| printer.verdict(line));
        return exit_code.into();
    }
    let command = below(tree::tree(config));
    let origin = origin(&error, args, config, &command);
    let verb = verbs.join(" ");
    let mistake =
        UsageMistake { error: &error, verb: &verb, command: &command, args, origin: &origin };
    let failure = ErrorReport::of_usage(&mistake, exit_code);
    Printer { style: PrintStyle { json, color, ..PrintStyle::default() } }.failure(&failure);
    exit_code.into()
}

/// Where the value that was refused comes from: the command line is to blame if it is refused without variables
/// and files, too.
fn origin(
    error: &clap::Error,
    args: &[OsString],
    config: &ConfigFiles,
    command: &clap::Command,
) -> ValueOrigin {
    let about = |error: &clap::Error| {
        (error.kind(), error.get(ContextKind::InvalidArg).map(ToString::to_string))
    };
    let typed = tree::without_defaults().try_get_matches_from(args).err();
    if typed.is_some_and(|typed| about(&typed) == about(error)) {
        return ValueOrigin::Flag;
    }
    let (kind, shown) = about(error);
    let key = match kind {
        // The parser does not say which.
        ErrorKind::InvalidUtf8 => KEYS.iter().find(|key| {
            std::env::var_os(key.variable()).is_some_and(|value| value.to_str().is_none())
        }),
        _ => command
            .get_arguments()
            .find(|arg| Some(arg.to_string()) == shown)
            .and_then(|arg| ConfigKey::find(arg.get_id().as_str())),
    };
    let set = key.and_then(|key| config.or_variable(key));
    set.map_or(ValueOrigin::Flag, |(_, origin)| origin)
}

/// Prints an error, and returns the exit status for it.
pub(super) fn fail(printer: Printer, error: &anyhow::Error, verb: Option<&str>) -> ExitCode {
    let failure =
        if is_guest_verb(verb) { ErrorReport::of_command(error) } else { ErrorReport::of(error) };
    printer.failure(&failure);
    failure.exit_code.into()
}

fn is_guest_verb(verb: Option<&str>) -> bool {
    verb.is_some_and(|verb| commands::GUEST_VERBS.contains(&verb))
}

/// The arguments before `--`; all others belong to the guest's command.
pub(super) fn arguments_before_guest(args: &[OsString]) -> impl Iterator<Item = &str> {
    args.iter().skip(1).take_while(|arg| *arg != "--").map(|arg| arg.to_str().unwrap_or_default())
}
