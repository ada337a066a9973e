//! How a command in a VM ended.

use std::time::Duration;

use crate::model::{Refusal, RefusalKind};
use crate::protocol::{AgentFailure, FailureKind, ProcessEnd};

/// The result of a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommandOutcome {
    pub exit: CommandExit,
    /// Standard output, if it was captured.
    pub stdout: CapturedOutput,
    /// Standard error, if it was captured.
    pub stderr: CapturedOutput,
    /// How long the command ran, by the agent's clock; by the host's if the agent did not report it.
    pub duration: Duration,
}

/// How a command ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CommandExit {
    /// It exited with this code.
    Exited(u8),
    /// This signal killed it.
    Signalled(u8),
    /// It was killed at its timeout.
    TimedOut,
    /// The VM expired and ended the command.
    VmExpired,
    /// The VM was stopped or deleted by another command.
    VmStopped,
    /// It did not start, for a reason that the user can remedy.
    NotStarted(AgentFailure),
    /// It was stopped because its output lost its reader.
    OutputClosed,
    /// Its terminal was hung up, by this signal to mayfly or because the host's terminal was closed.
    HungUp(u8),
}

/// Captured output.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CapturedOutput {
    pub bytes: Vec<u8>,
    /// Whether there was more output than the limit.
    pub truncated: bool,
}

impl CommandExit {
    /// The exit code for `exec` and `run`: the command's own; 128 plus the number of the signal that killed
    /// it; 124 after a timeout, also the VM's; 125 if the VM was stopped; 127 if there is no such program; 126 if it could not be started otherwise.
    pub fn code(&self) -> u8 {
        match self {
            CommandExit::Exited(code) => *code,
            CommandExit::Signalled(signal) | CommandExit::HungUp(signal) => {
                128_u8.saturating_add(*signal)
            }
            CommandExit::TimedOut | CommandExit::VmExpired => 124,
            CommandExit::VmStopped => 125,
            CommandExit::NotStarted(AgentFailure { kind: FailureKind::NotFound, .. }) => 127,
            CommandExit::NotStarted(_) => 126,
            CommandExit::OutputClosed => 128 + nix::libc::SIGPIPE as u8,
        }
    }

    /// Whether its time was over, or that of its VM.
    pub fn was_out_of_time(&self) -> bool {
        matches!(self, CommandExit::TimedOut | CommandExit::VmExpired)
    }

    /// What ended the command, as in JSON; `None` if it never started.
    pub fn ended_by(&self) -> Option<&'static str> {
        match self {
            CommandExit::NotStarted(_) => None,
            CommandExit::Exited(_) => Some("exit"),
            CommandExit::TimedOut => Some("timeout"),
            CommandExit::VmExpired => Some("ttl"),
            CommandExit::VmStopped => Some("stopped"),
            CommandExit::Signalled(_) | CommandExit::OutputClosed | CommandExit::HungUp(_) => {
                Some("signal")
            }
        }
    }
}

impl From<ProcessEnd> for CommandExit {
    fn from(end: ProcessEnd) -> CommandExit {
        match end {
            ProcessEnd::Code(code) => CommandExit::Exited(code),
            ProcessEnd::Signal(signal) => CommandExit::Signalled(signal),
        }
    }
}

/// Why an agent did not start a command.
pub(super) fn refused(failure: &AgentFailure) -> anyhow::Error {
    let kind = match failure.kind {
        FailureKind::Busy => RefusalKind::Busy,
        _ => RefusalKind::Agent,
    };
    Refusal::new(kind, format!("the agent cannot run the command: {}", failure.message)).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_codes_are_those_of_a_shell() {
        let not_started =
            |kind| CommandExit::NotStarted(AgentFailure { kind, message: String::new() }).code();
        assert_eq!(CommandExit::Exited(3).code(), 3);
        assert_eq!(CommandExit::Signalled(9).code(), 137);
        assert_eq!(CommandExit::TimedOut.code(), 124);
        assert_eq!(CommandExit::VmExpired.code(), 124);
        assert_eq!(CommandExit::VmStopped.code(), 125);
        assert_eq!(CommandExit::OutputClosed.code(), 141);
        assert_eq!(CommandExit::HungUp(1).code(), 129);
        assert_eq!(not_started(FailureKind::NotFound), 127);
        assert_eq!(not_started(FailureKind::NotExecutable), 126);
        assert_eq!(not_started(FailureKind::NoSuchUser), 126);
    }
}
