//! An error as users and scripts see it.

use serde::Serialize;

use super::escape::escape;
use super::usage_hint;
use crate::host::signals::SignalInterrupt;
use crate::model::{Refusal, RefusalKind};

/// The exit code of `exec`, `run` and `shell` if mayfly itself fails, as with docker: smaller codes could be
/// those of the command.
pub const MAYFLY_FAILED: u8 = 125;

/// An error, ready to print.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ErrorReport {
    pub kind: &'static str,
    /// One line, and indented lines of output that it quotes; escaped.
    pub message: String,
    pub hint: Option<String>,
    pub exit_code: u8,
}

impl ErrorReport {
    /// From the refusal or interruption in the error's chain; without one, it is a plain failure.
    pub fn of(error: &anyhow::Error) -> ErrorReport {
        if let Some(interrupted) = error.downcast_ref::<SignalInterrupt>() {
            return ErrorReport {
                kind: "interrupted",
                message: interrupted.to_string(),
                hint: None,
                exit_code: interrupted.code(),
            };
        }
        let refusal = Refusal::find(error);
        let kind = refusal.map_or(RefusalKind::Failure, |refusal| refusal.kind);
        ErrorReport {
            kind: kind.name(),
            message: Refusal::lines(error)
                .iter()
                .map(|line| escape(line))
                .collect::<Vec<_>>()
                .join("\n"),
            hint: refusal.and_then(|refusal| refusal.hint.as_deref()).map(escape),
            exit_code: kind.exit_code(),
        }
    }

    /// From an error of the command line's parser. Printed like every other error, because clap neither
    /// escapes what the user typed nor leaves arguments that come from variables out of the usage.
    pub fn of_usage(error: &clap::Error, verb: Option<&str>, exit_code: u8) -> ErrorReport {
        let text = error.render().to_string();
        let mut paragraphs = text.split("\n\n").map(|paragraph| {
            let words: Vec<&str> = paragraph.lines().map(str::trim).collect();
            escape(words.join(" ").trim())
        });
        let message = paragraphs.next().unwrap_or_default();
        let message = message.strip_prefix("error: ").unwrap_or(&message).to_owned();
        let kind = RefusalKind::Usage.name();
        ErrorReport { kind, message, hint: Some(usage_hint::hint(error, verb)), exit_code }
    }

    /// For a verb that otherwise exits with the code of a command in the guest.
    pub fn of_command(error: &anyhow::Error) -> ErrorReport {
        let failure = ErrorReport::of(error);
        match error.downcast_ref::<SignalInterrupt>() {
            Some(_) => failure,
            None => ErrorReport { exit_code: MAYFLY_FAILED, ..failure },
        }
    }
}
