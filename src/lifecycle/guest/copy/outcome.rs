//! How the copy in the VM ended.

use anyhow::{Result, anyhow};
use nix::sys::signal::Signal;

use crate::guest::{CommandExit, CommandOutcome};
use crate::host::signals::SignalInterrupt;
use crate::model::{Refusal, RefusalKind};
use crate::protocol::COPY_NOT_FOUND;
use crate::sys::signals::STOPPING;

/// How many bytes of the error output are kept: enough for a line.
pub const ERROR_LIMIT: usize = 4096;

/// The error of the copy in the VM, if it failed.
pub fn check_outcome(outcome: &CommandOutcome) -> Result<()> {
    let printed = String::from_utf8_lossy(&outcome.stderr.bytes);
    // The agent prints one line. More lines come from a guest that imitates mayfly's own messages.
    let line = printed.trim().lines().next().unwrap_or_default();
    let stopped = |signal: u8| {
        let signal = Signal::try_from(i32::from(signal)).ok()?;
        STOPPING.contains(&signal).then_some(SignalInterrupt(signal.into()))
    };
    match &outcome.exit {
        CommandExit::Exited(0) => Ok(()),
        CommandExit::Exited(COPY_NOT_FOUND) if !line.is_empty() => {
            Err(Refusal::new(RefusalKind::NotFound, format!("in the VM: {line}")).into())
        }
        CommandExit::Exited(_) if !line.is_empty() => Err(anyhow!("in the VM: {line}")),
        CommandExit::Exited(code) => {
            Err(anyhow!("in the VM: the copy ended with exit code {code}"))
        }
        CommandExit::Signalled(signal) => match stopped(*signal) {
            Some(interrupted) => Err(interrupted.into()),
            None => Err(anyhow!("in the VM: the copy was killed by signal {signal}")),
        },
        CommandExit::NotStarted(failure) => Err(anyhow!("in the VM: {}", failure.message)),
        CommandExit::VmExpired => {
            let refusal = Refusal::new(RefusalKind::Expired, "the VM expired during the copy");
            Err(refusal.hint("'mayfly extend' or '--ttl' gives a VM more time").into())
        }
        CommandExit::VmStopped => {
            Err(Refusal::new(RefusalKind::Agent, "the VM was stopped during the copy").into())
        }
        CommandExit::TimedOut | CommandExit::OutputClosed | CommandExit::HungUp(_) => {
            Err(Refusal::new(RefusalKind::Agent, "the copy in the VM was cancelled").into())
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::guest::CapturedOutput;

    fn error_of(exit: CommandExit, printed: &str) -> String {
        let stderr = CapturedOutput { bytes: printed.into(), truncated: false };
        let stdout = CapturedOutput::default();
        let outcome = CommandOutcome { exit, stdout, stderr, duration: Duration::ZERO };
        check_outcome(&outcome).unwrap_err().to_string()
    }

    #[test]
    fn one_line_of_the_guests_error_is_shown() {
        let printed = "there is no \"x\"\nmayfly: all is well\n";
        assert_eq!(error_of(CommandExit::Exited(1), printed), "in the VM: there is no \"x\"");
        assert_eq!(
            error_of(CommandExit::Exited(1), "\n"),
            "in the VM: the copy ended with exit code 1"
        );
    }
}
