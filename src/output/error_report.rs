//! An error as users and scripts see it.

use std::time::Duration;

use nix::sys::signal::Signal;
use serde::Serialize;

use super::escape::escape;
use super::typed_flags::complete;
use super::usage_mistake::UsageMistake;
use super::{bad_value, usage_hint};
use crate::guest::CommandExit;
use crate::host::signals::SignalInterrupt;
use crate::model::{Refusal, RefusalKind, TimeSpan};
use crate::protocol::FailureKind;

/// The exit code of `exec`, `run` and `shell` if mayfly itself fails, as with docker: smaller codes could be
/// those of the command.
pub const MAYFLY_FAILED: u8 = 125;

/// The kind of an error if a signal ended mayfly.
const INTERRUPTED: &str = "interrupted";

/// An error.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct ErrorReport {
    /// `usage`, `not_found`, `expired`, `wrong_state`, `name_taken`, `limit_reached`, `busy`, `host` (this host cannot
    /// do it), `agent` (the VM did not do its part), `interrupted` (by a signal) or `failure`; about a command also
    /// `timed_out`, `stopped` or `not_executable`.
    pub kind: &'static str,
    /// One line, and indented lines of output that it quotes; escaped.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
    /// That of mayfly; for one of several VMs, the one that the error has by itself.
    pub exit_code: u8,
}

impl ErrorReport {
    /// From the refusal or interruption in the error's chain; without one, it is a plain failure.
    pub fn of(error: &anyhow::Error) -> ErrorReport {
        if let Some(interrupted) = error.downcast_ref::<SignalInterrupt>() {
            return ErrorReport {
                kind: INTERRUPTED,
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
            hint: refusal
                .and_then(|refusal| refusal.hint.as_deref())
                .map(|hint| escape(&complete(hint))),
            exit_code: kind.exit_code(),
        }
    }

    /// From an error of the command line's parser. Printed like every other error, because clap neither
    /// escapes what the user typed nor leaves arguments that come from variables out of the usage.
    pub fn of_usage(mistake: &UsageMistake<'_>, exit_code: u8) -> ErrorReport {
        let message = bad_value::message(mistake).unwrap_or_else(|| {
            let text = mistake.error.render().to_string();
            let paragraph = text.split("\n\n").next().unwrap_or_default();
            let words: Vec<&str> = paragraph.lines().map(str::trim).collect();
            let words = words.join(" ");
            words.strip_prefix("error: ").unwrap_or(&words).trim().to_owned()
        });
        ErrorReport {
            kind: RefusalKind::Usage.name(),
            message: escape(&message),
            hint: Some(usage_hint::hint(mistake)),
            exit_code,
        }
    }

    /// For a verb that otherwise exits with the code of a command in the guest.
    pub fn of_command(error: &anyhow::Error) -> ErrorReport {
        let failure = ErrorReport::of(error);
        match error.downcast_ref::<SignalInterrupt>() {
            Some(_) => failure,
            None => ErrorReport { exit_code: MAYFLY_FAILED, ..failure },
        }
    }

    /// What mayfly has to say about the end of a command, if the command's exit code and output do not say
    /// everything. A signal that killed it is named only on a terminal, as a shell does.
    pub fn of_exit(
        exit: &CommandExit,
        timeout: Option<TimeSpan>,
        at_terminal: bool,
    ) -> Option<ErrorReport> {
        let (kind, message, hint) = match exit {
            CommandExit::TimedOut => {
                let limit = timeout.map_or(Duration::ZERO, |limit| limit.0);
                ("timed_out", format!("command timed out after {limit:?}"), None)
            }
            CommandExit::VmExpired => (
                RefusalKind::Expired.name(),
                "the VM expired while the command ran".into(),
                Some("'mayfly extend' or '--ttl' gives a VM more time".into()),
            ),
            CommandExit::VmStopped => {
                ("stopped", "the VM was stopped while the command ran".into(), None)
            }
            CommandExit::NotStarted(failure) => {
                let kind = match failure.kind {
                    FailureKind::NotExecutable => "not_executable",
                    _ => RefusalKind::NotFound.name(),
                };
                (kind, escape(&failure.message), None)
            }
            CommandExit::HungUp(signal) if *signal == Signal::SIGHUP as u8 => {
                (INTERRUPTED, "hung up".into(), None)
            }
            CommandExit::HungUp(signal) => {
                (INTERRUPTED, format!("interrupted by {}", signal_name(*signal)), None)
            }
            CommandExit::Signalled(signal) if at_terminal => {
                ("killed", format!("killed by {}", signal_name(*signal)), None)
            }
            CommandExit::Exited(_) | CommandExit::Signalled(_) | CommandExit::OutputClosed => {
                return None;
            }
        };
        Some(ErrorReport { kind, message, hint, exit_code: exit.code() })
    }
}

fn signal_name(signal: u8) -> String {
    Signal::try_from(i32::from(signal))
        .map_or_else(|_| format!("signal {signal}"), |signal| signal.to_string())
}
