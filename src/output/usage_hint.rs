//! Hints for command lines that the parser does not accept.

use clap::error::{ContextKind, ContextValue};

use super::escape::escape;
use crate::model::Refusal;

/// Commands of similar programs, and what mayfly calls them.
const OTHER_NAMES: [(&[&str], &str); 9] = [
    (&["list", "inspect", "info"], "mayfly status"),
    (&["delete", "del", "destroy", "kill", "remove"], "mayfly rm"),
    (&["ssh", "attach", "console", "login"], "mayfly shell"),
    (&["images"], "mayfly image ls"),
    (&["pull", "build"], "mayfly image build"),
    (&["import", "load"], "mayfly image import"),
    (&["prune", "gc", "clean"], "mayfly reap"),
    (&["up", "boot"], "mayfly start"),
    (&["version"], "mayfly --version"),
];

/// The hint for an error of clap's, in one line.
pub(super) fn hint(error: &clap::Error, verb: Option<&str>) -> String {
    // The refusal of a value has a more precise hint.
    let refusal =
        std::error::Error::source(error).and_then(|source| source.downcast_ref::<Refusal>());
    if let Some(hint) = refusal.and_then(|refusal| refusal.hint.as_deref()) {
        return escape(hint);
    }
    about_word(error).or_else(|| suggestion(error)).unwrap_or_else(|| match verb {
        Some(verb) => format!("'mayfly {verb} --help' shows the usage"),
        None => "'mayfly --help' shows the usage".into(),
    })
}

fn about_word(error: &clap::Error) -> Option<String> {
    let word = text(error, ContextKind::InvalidSubcommand)?;
    let (_, name) = OTHER_NAMES.iter().find(|(words, _)| words.contains(&word))?;
    Some(format!("mayfly calls that '{name}'"))
}

fn suggestion(error: &clap::Error) -> Option<String> {
    let kinds =
        [ContextKind::SuggestedArg, ContextKind::SuggestedSubcommand, ContextKind::SuggestedValue];
    let word = kinds.into_iter().find_map(|kind| text(error, kind))?;
    Some(format!("did you mean '{}'?", escape(word)))
}

/// The last of several values, which clap considers the best.
fn text(error: &clap::Error, kind: ContextKind) -> Option<&str> {
    match error.get(kind)? {
        ContextValue::String(word) => Some(word),
        ContextValue::Strings(words) => words.last().map(String::as_str),
        _ => None,
    }
}
