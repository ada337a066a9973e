//! Messages about values that the parser refuses. They say where the value comes from, because it can be a flag,
//! a variable or a settings file.

use std::any::TypeId;
use std::error::Error;
use std::num::{IntErrorKind, ParseIntError};

use clap::Arg;
use clap::error::{ContextKind, ContextValue, ErrorKind};

use super::usage_mistake::UsageMistake;
use crate::model::Refusal;
use crate::settings::ValueOrigin;

/// The message, unless the mistake is of another kind.
pub(super) fn message(mistake: &UsageMistake<'_>) -> Option<String> {
    match mistake.error.kind() {
        ErrorKind::InvalidValue | ErrorKind::ValueValidation => {
            let name = name(mistake.argument()?, mistake.origin);
            let why = problem(mistake)?;
            Some(if name.is_empty() { why } else { format!("{name}: {why}") })
        }
        ErrorKind::UnknownArgument => swallowed(mistake),
        ErrorKind::InvalidUtf8 => Some(match mistake.origin {
            ValueOrigin::Variable(variable) => format!("{variable} is not UTF-8"),
            _ => {
                let word = mistake.args.iter().find(|word| word.to_str().is_none())?;
                format!("{word:?} is not UTF-8")
            }
        }),
        _ => None,
    }
}

/// What the user has to change; empty for an argument that is not a flag, whose value says enough.
fn name(arg: &Arg, origin: &ValueOrigin) -> String {
    match origin {
        ValueOrigin::Variable(variable) => variable.clone(),
        ValueOrigin::File { path, line } => {
            format!("{}:{line}: {}", path.display(), arg.get_id())
        }
        ValueOrigin::Flag | ValueOrigin::BuiltIn => flag(arg).unwrap_or_default(),
    }
}

fn flag(arg: &Arg) -> Option<String> {
    let short = || Some(format!("-{}", arg.get_short()?));
    arg.get_long().map(|long| format!("--{long}")).or_else(short)
}

fn problem(mistake: &UsageMistake<'_>) -> Option<String> {
    let value = mistake.about(ContextKind::InvalidValue)?;
    if let Some(source) = mistake.error.source() {
        if let Some(refusal) = source.downcast_ref::<Refusal>() {
            return Some(refusal.message.clone());
        }
        if let Some(error) = source.downcast_ref::<ParseIntError>() {
            return Some(match error.kind() {
                IntErrorKind::PosOverflow => format!("{value:?} is too large"),
                _ => format!("{value:?} is not a whole number"),
            });
        }
    }
    let arg = mistake.argument()?;
    if arg.get_value_parser().type_id() == TypeId::of::<bool>() {
        return Some(format!("{value:?} is neither yes nor no"));
    }
    match mistake.error.get(ContextKind::ValidValue) {
        Some(ContextValue::Strings(words)) => {
            Some(format!("{value:?} is not one of {}", words.join(", ")))
        }
        _ if value.is_empty() => Some("a value is missing".into()),
        _ => None,
    }
}

/// For a value that begins with a hyphen, which the parser takes for a flag.
fn swallowed(mistake: &UsageMistake<'_>) -> Option<String> {
    let found = mistake.about(ContextKind::InvalidArg)?;
    let typed = mistake.args.iter().find(|word| {
        word.to_str().is_some_and(|word| {
            word.starts_with(found) && word[1..].starts_with(|c: char| c.is_ascii_digit())
        })
    })?;
    let typed = typed.to_str()?;
    let before = mistake.word_before(typed)?;
    let takes_value =
        |arg: &Arg| arg.get_action().takes_values() && flag(arg).is_some_and(|flag| flag == before);
    let arg = mistake.command.get_arguments().find(|arg| takes_value(arg))?;
    Some(format!("{}: a value cannot be negative: {typed:?}", flag(arg)?))
}
