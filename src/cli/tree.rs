//! Adds to the derived definition of the command line what attributes cannot express.

use std::any::TypeId;

use clap::builder::{BoolishValueParser, StyledStr};
use clap::{Arg, ArgAction, CommandFactory};

use super::args::Cli;
use crate::settings::ConfigFiles;

/// The definition of the command line, with the values in `config` as defaults of flags.
pub(super) fn tree(config: &ConfigFiles) -> clap::Command {
    adjust(Cli::command(), config)
}

/// The definition of the command line, on which no variable or file sets a flag.
pub(super) fn without_defaults() -> clap::Command {
    fn cleared(command: clap::Command) -> clap::Command {
        command.mut_args(|arg| arg.env(None::<&'static str>)).mut_subcommands(cleared)
    }
    cleared(tree(&ConfigFiles::default()))
}

fn adjust(command: clap::Command, config: &ConfigFiles) -> clap::Command {
    join_lines(command)
        .mut_args(|arg| apply_config(allow_no(move_variable(arg)), config))
        .mut_subcommands(|sub| adjust(sub, config))
}

/// Joins the lines of each paragraph after the options, so that clap wraps them to the width of the terminal.
fn join_lines(command: clap::Command) -> clap::Command {
    let joined = |text: &StyledStr| joined(&text.to_string());
    let short = command.get_after_help().map(joined);
    let long = command.get_after_long_help().map(joined);
    let command = short.into_iter().fold(command, clap::Command::after_help);
    long.into_iter().fold(command, clap::Command::after_long_help)
}

/// Indented lines, and lines before them, are not joined.
fn joined(text: &str) -> String {
    let is_prose = |line: &str| !line.is_empty() && !line.starts_with(' ');
    let mut joined = String::new();
    let mut previous = "";
    for line in text.lines() {
        if !joined.is_empty() {
            joined.push(if is_prose(previous) && is_prose(line) { ' ' } else { '\n' });
        }
        joined.push_str(line);
        previous = line;
    }
    joined
}

/// Moves the name of an environment variable from `-h`, where it makes lines too long, to `--help`.
fn move_variable(arg: Arg) -> Arg {
    let Some(variable) = variable(&arg) else { return arg };
    let help = arg.get_long_help().or(arg.get_help()).map(ToString::to_string);
    let help = help.map_or_else(String::new, |help| format!("{help}\n\n"));
    arg.hide_env(true).long_help(format!("{help}[env: {variable}]"))
}

/// Allows a switch that a variable or file can turn on to be turned off: `--keep=no`.
fn allow_no(arg: Arg) -> Arg {
    let is_switch = arg.get_value_parser().type_id() == TypeId::of::<bool>();
    if !is_switch || variable(&arg).is_none() {
        return arg;
    }
    // An optional switch that is not given stays unset, so that a profile can decide.
    let arg = match arg.get_action() {
        ArgAction::SetTrue => arg.default_value("no"),
        _ => arg,
    };
    arg.action(ArgAction::Set)
        .num_args(0..=1)
        .require_equals(true)
        .default_missing_value("yes")
        .value_name("no")
        .hide_default_value(true)
        .hide_possible_values(true)
        .value_parser(BoolishValueParser::new())
}

/// Takes the default from the settings files. An empty variable counts as unset, which is what Makefiles and
/// CI systems mean by it.
fn apply_config(arg: Arg, config: &ConfigFiles) -> Arg {
    let Some(variable) = variable(&arg) else { return arg };
    let key = variable.trim_start_matches("MAYFLY_").to_lowercase();
    let is_empty = std::env::var_os(&variable).is_some_and(|value| value.is_empty());
    let arg = if is_empty { arg.env(None::<&'static str>) } else { arg };
    match config.get(&key) {
        Some((value, _)) => arg.default_value(value.to_owned()),
        None => arg,
    }
}

fn variable(arg: &Arg) -> Option<String> {
    arg.get_env().map(|name| name.to_string_lossy().into_owned())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::settings::{KEYS, KeyForm};

    fn walk(command: &clap::Command, visit: &mut dyn FnMut(&Arg)) {
        command.get_arguments().for_each(&mut *visit);
        command.get_subcommands().for_each(|sub| walk(sub, visit));
    }

    #[test]
    fn prose_is_joined_but_indented_lines_are_not() {
        let text = "Title:\n  one\n  two\n\nSome\nwords.\n\nMore.";
        assert_eq!(joined(text), "Title:\n  one\n  two\n\nSome words.\n\nMore.");
    }

    #[test]
    fn keys_are_the_variables_of_flags() {
        let mut variables = BTreeSet::new();
        walk(&Cli::command(), &mut |arg| variables.extend(variable(arg)));
        let keys: BTreeSet<String> = KEYS.iter().map(|key| key.variable()).collect();
        assert_eq!(keys, variables);
    }

    #[test]
    fn defaults_of_keys_are_those_of_flags() {
        let mut checked = 0;
        walk(&tree(&ConfigFiles::default()), &mut |arg| {
            let Some(variable) = variable(arg) else { return };
            let key = KEYS.iter().find(|key| key.variable() == variable).unwrap();
            if let KeyForm::Choice(words) = key.form {
                let known = arg.get_possible_values();
                assert_eq!(words(), known.iter().map(|value| value.get_name()).collect::<Vec<_>>());
            }
            // Many built-in values are not known to the parser.
            let default = arg.get_default_values().first().and_then(|value| value.to_str());
            let default = default.map(|value| if value == "no" { "false" } else { value });
            if default.is_some() && key.built_in.is_some() {
                assert_eq!(default, key.built_in, "{variable}");
                checked += 1;
            }
        });
        assert!(checked > 5);
    }
}
