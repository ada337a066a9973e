//! A command line that the parser does not accept, with what its message and hint need to know.

use std::ffi::OsString;

use clap::error::{ContextKind, ContextValue};

use crate::settings::ValueOrigin;

/// A mistake on the command line, in a variable or in a settings file.
#[derive(Debug, Clone, Copy)]
pub struct UsageMistake<'a> {
    pub error: &'a clap::Error,
    /// The verb as far as it was understood, such as `image`; empty without one.
    pub verb: &'a str,
    /// Its definition, with global flags.
    pub command: &'a clap::Command,
    /// All words of the command line.
    pub args: &'a [OsString],
    /// Where the refused value comes from.
    pub origin: &'a ValueOrigin,
}

impl<'a> UsageMistake<'a> {
    /// What the parser says about this; the last of several values, which it considers the best.
    pub(super) fn about(&self, kind: ContextKind) -> Option<&'a str> {
        match self.error.get(kind)? {
            ContextValue::String(word) => Some(word),
            ContextValue::Strings(words) => words.last().map(String::as_str),
            _ => None,
        }
    }

    /// The flag or argument that the parser names.
    pub(super) fn argument(&self) -> Option<&'a clap::Arg> {
        let shown = self.about(ContextKind::InvalidArg)?;
        self.command.get_arguments().find(|arg| arg.to_string() == shown)
    }

    /// The words after `word`.
    pub(super) fn words_after(&self, word: &str) -> &'a [OsString] {
        let at = self.args.iter().skip(1).position(|arg| arg == word);
        at.map_or(&[], |at| &self.args[at + 2..])
    }

    /// The word before `word`.
    pub(super) fn word_before(&self, word: &str) -> Option<&'a str> {
        let at = self.args.iter().skip(1).position(|arg| arg == word)?;
        self.args[at].to_str()
    }
}
