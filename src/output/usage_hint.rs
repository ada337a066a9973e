//! Hints for command lines that the parser does not accept.

use clap::error::{ContextKind, ErrorKind};

use super::escape::escape;
use super::usage_mistake::UsageMistake;
use super::{docker_flags, docker_verbs};
use crate::model::{Refusal, nearest::nearest};

/// Verbs that delete or end something. A word that is merely similar must not lead to one.
const DESTRUCTIVE: [&str; 4] = ["rm", "stop", "reap", "prune"];

/// The hint for a mistake, in one line.
pub(super) fn hint(mistake: &UsageMistake<'_>) -> String {
    if let Some(hint) = about_mount(mistake) {
        return hint.to_owned();
    }
    // The refusal of a value has a more precise hint.
    let refusal = std::error::Error::source(mistake.error)
        .and_then(|source| source.downcast_ref::<Refusal>());
    if let Some(hint) = refusal.and_then(|refusal| refusal.hint.as_deref()) {
        return escape(hint);
    }
    if let Some(hint) = about_network(mistake) {
        return hint.to_owned();
    }
    let hint = about_word(mistake).or_else(|| suggestion(mistake));
    hint.map_or_else(|| usage(mistake.verb), |hint| escape(&hint))
}

fn usage(verb: &str) -> String {
    let verb = if verb.is_empty() { String::new() } else { format!("{verb} ") };
    format!("'mayfly {verb}--help' shows the usage")
}

/// For docker's '-v DIR:PATH'.
fn about_mount(mistake: &UsageMistake<'_>) -> Option<&'static str> {
    let word = mistake.about(ContextKind::InvalidValue);
    let word = word.or_else(|| mistake.about(ContextKind::InvalidArg))?;
    let hint = docker_flags::about_mount(word)?;
    (mistake.word_before(word) == Some("-v")).then_some(hint)
}

/// For docker's '--net host'.
fn about_network(mistake: &UsageMistake<'_>) -> Option<&'static str> {
    let is_mode = mistake.argument()?.get_id() == "net";
    let value = mistake.about(ContextKind::InvalidValue)?;
    is_mode.then(|| docker_flags::about_network(value)).flatten()
}

/// For words of docker and similar programs.
fn about_word(mistake: &UsageMistake<'_>) -> Option<String> {
    if let Some(flag) = mistake.about(ContextKind::InvalidArg) {
        return docker_flags::about_flag(mistake.verb, flag).map(str::to_owned);
    }
    let word = mistake.about(ContextKind::InvalidSubcommand)?;
    docker_verbs::about_verb(mistake.verb, word, mistake.words_after(word))
}

/// The most similar word that is shown in the help.
fn suggestion(mistake: &UsageMistake<'_>) -> Option<String> {
    let (verb, command) = (mistake.verb, mistake.command);
    if let Some(typed) = mistake.about(ContextKind::InvalidSubcommand) {
        let names = command.get_subcommands().filter(|verb| !verb.is_hide_set());
        let names = names.map(clap::Command::get_name).filter(|name| !DESTRUCTIVE.contains(name));
        let name = nearest(typed, names)?;
        let verb = if verb.is_empty() { String::new() } else { format!("{verb} ") };
        return Some(format!("did you mean 'mayfly {verb}{name}'?"));
    }
    if mistake.error.kind() == ErrorKind::UnknownArgument {
        let typed = mistake.about(ContextKind::InvalidArg)?.strip_prefix("--")?;
        let flags = command.get_arguments().filter(|arg| !arg.is_hide_set());
        let flag = nearest(typed, flags.filter_map(clap::Arg::get_long))?;
        return Some(format!("did you mean '--{flag}'?"));
    }
    let value = mistake.about(ContextKind::SuggestedValue)?;
    Some(format!("did you mean '{value}'?"))
}
