//! How a command ended, as its caller sees it.

use std::time::Duration;

use crate::protocol::{AgentFailure, FailureKind, ProcessEnd};

/// What came of a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommandOutcome {
    pub exit: CommandExit,
    /// Standard output, where it was captured.
    pub stdout: CapturedOutput,
    /// Standard error, where it was captured.
    pub stderr: CapturedOutput,
    /// From start to end of the command, by the agent's clock; by the host's where it did not say.
    pub duration: Duration,
}

/// How a command ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CommandExit {
    /// It returned this code.
    Exited(u8),
    /// This signal killed it.
    Signalled(u8),
    /// It was killed because its time was over.
    TimedOut,
    /// It did not start, for a reason the user can do something about.
    NotStarted(AgentFailure),
    /// Nobody reads its output any more, so it was stopped.
    OutputClosed,
    /// The person at its terminal is gone, or this signal told us to go: its terminal was hung up.
    HungUp(u8),
}

/// Output that was kept instead of passed on.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CapturedOutput {
    pub bytes: Vec<u8>,
    /// Whether there was more than the limit.
    pub truncated: bool,
}

impl CommandExit {
    /// The exit code for `exec` and `run`: the command's own, 128 and the signal that killed it,
    /// 124 after a timeout, 127 when there is no such program, 126 when it could not be started
    /// otherwise.
    pub fn code(&self) -> u8 {
        match self {
            CommandExit::Exited(code) => *code,
            CommandExit::Signalled(signal) | CommandExit::HungUp(signal) => {
                128_u8.saturating_add(*signal)
            }
            CommandExit::TimedOut => 124,
            CommandExit::NotStarted(AgentFailure { kind: FailureKind::NotFound, .. }) => 127,
            CommandExit::NotStarted(_) => 126,
            CommandExit::OutputClosed => 128 + nix::libc::SIGPIPE as u8,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_the_shells() {
        let not_started =
            |kind| CommandExit::NotStarted(AgentFailure { kind, message: String::new() }).code();
        assert_eq!(CommandExit::Exited(3).code(), 3);
        assert_eq!(CommandExit::Signalled(9).code(), 137);
        assert_eq!(CommandExit::TimedOut.code(), 124);
        assert_eq!(CommandExit::OutputClosed.code(), 141);
        assert_eq!(CommandExit::HungUp(1).code(), 129);
        assert_eq!(not_started(FailureKind::NotFound), 127);
        assert_eq!(not_started(FailureKind::NotExecutable), 126);
        assert_eq!(not_started(FailureKind::NoSuchUser), 126);
    }
}
