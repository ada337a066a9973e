//! How a verb's help is laid out: `-h` fits a screen, and `--help` is as compact, with every detail. The global
//! options are only in `mayfly --help`.

use clap::builder::{PossibleValue, PossibleValuesParser, Resettable};
use clap::{Arg, ArgAction, Command};

const GLOBAL_OPTIONS: &str = "See 'mayfly --help' for global options.";

/// The definition of the command line with this help of its verbs, to be shown and not to be obeyed.
/// `detailed` is for `--help`, otherwise it is for `-h`.
pub fn with_verbs_help(tree: Command, detailed: bool) -> Command {
    let globals: Vec<Arg> =
        tree.get_arguments().filter(|arg| arg.is_global_set()).cloned().collect();
    let of_tree = |arg: Arg| arg.help_heading("Global options").display_order(usize::MAX);
    let help = Arg::new("help").short('h').long("help").action(ArgAction::Help);
    let version = Arg::new("version").short('V').long("version").action(ArgAction::Version);
    let tree = tree.disable_help_flag(true).disable_version_flag(true).args([
        of_tree(help.help("Print a summary (-h) or everything (--help)")),
        of_tree(version.help("Print the version")),
    ]);
    tree.mut_subcommands(|verb| {
        // Clap passes a global option on to a verb that has none of this id.
        let hidden = globals.iter().map(|arg| arg.clone().hide(true));
        hidden.fold(verb_help(verb, detailed), Command::arg)
    })
}

fn verb_help(verb: Command, detailed: bool) -> Command {
    let verb = if detailed { with_details(verb) } else { verb };
    let help = Arg::new("help").short('h').long("help").action(ArgAction::Help).hide(true);
    let pointer = if detailed {
        GLOBAL_OPTIONS.to_owned()
    } else {
        format!("'--help' says more. {GLOBAL_OPTIONS}")
    };
    let after = verb.get_after_help().map(|after| format!("{after}\n\n")).unwrap_or_default();
    verb.disable_help_flag(true)
        .arg(help)
        .after_help(format!("{after}{pointer}"))
        .mut_subcommands(|verb| verb_help(verb, detailed))
}

/// Replaces each short text with the long one. With short texts alone, clap prints the flags as a table.
fn with_details(verb: Command) -> Command {
    let about = verb.get_long_about().or(verb.get_about()).cloned().unwrap_or_default();
    let after = verb.get_after_long_help().or(verb.get_after_help()).cloned().unwrap_or_default();
    // The list of verbs one level up prints the short text.
    verb.before_help(about)
        .long_about(Resettable::Reset)
        .help_template("{before-help}{usage-heading} {usage}\n\n{all-args}{after-help}")
        .after_help(after)
        .after_long_help(Resettable::Reset)
        .mut_args(arg_with_details)
}

fn arg_with_details(arg: Arg) -> Arg {
    let text = arg.get_long_help().or(arg.get_help()).map(ToString::to_string).unwrap_or_default();
    let arg = arg.long_help(Resettable::Reset).hide_short_help(false);
    let values: Vec<PossibleValue> = arg.get_possible_values();
    let described: Vec<String> = values
        .iter()
        .filter_map(|value| {
            let about = value.get_help()?.to_string();
            let (first, rest) = about.split_at(1);
            Some(format!("'{}': {}{rest}", value.get_name(), first.to_lowercase()))
        })
        .collect();
    if described.is_empty() {
        return arg.help(one_paragraph(text.split("\n\n")));
    }
    // clap would print values that are described as a list.
    let values = values.into_iter().map(|value| value.help(Resettable::Reset));
    let described = format!("{}.", described.join("; "));
    let (prose, env) = text.rsplit_once("\n\n[").unwrap_or((&text, ""));
    let env = (!env.is_empty()).then(|| format!("[{env}"));
    let paragraphs = prose.split("\n\n").chain([described.as_str()]).chain(env.as_deref());
    arg.help(one_paragraph(paragraphs))
        .value_parser(PossibleValuesParser::new(values))
        .hide_possible_values(true)
}

/// Joins a summary, which ends without a full stop, with the paragraphs after it.
fn one_paragraph<'a>(paragraphs: impl Iterator<Item = &'a str>) -> String {
    let mut joined = String::new();
    for paragraph in paragraphs {
        if !joined.is_empty() {
            let is_open = !joined.ends_with('.') && !paragraph.starts_with('[');
            joined.push_str(if is_open { ". " } else { " " });
        }
        joined.push_str(paragraph);
    }
    joined
}

#[cfg(test)]
mod tests {
    use super::one_paragraph;

    #[test]
    fn summaries_end_before_details() {
        for (text, joined) in [
            ("Do it", "Do it"),
            ("Do it|Now. Really.|[env: X]", "Do it. Now. Really. [env: X]"),
            ("Do it|[env: X]", "Do it [env: X]"),
        ] {
            assert_eq!(one_paragraph(text.split('|')), joined);
        }
    }
}
