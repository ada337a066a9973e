//! How the copying agent in the VM ended.

use anyhow::{Result, anyhow};
use nix::sys::signal::Signal;

use crate::guest::{CommandExit, CommandOutcome};
use crate::host::signals::SignalInterrupt;
use crate::model::{Refusal, RefusalKind};
use crate::sys::signals::STOPPING;

/// How much of what the copy in the VM says is kept: a line.
pub const SAYS_LIMIT: usize = 4096;

/// Whether the copy in the VM ended well; its error, if it did not.
pub fn ended_well(outcome: &CommandOutcome) -> Result<()> {
    let said = String::from_utf8_lossy(&outcome.stderr.bytes);
    // One line is what the agent says; more would be a guest's that wants to be taken for us.
    let said = said.trim().lines().next().unwrap_or_default();
    let stopped = |signal: u8| {
        let signal = Signal::try_from(i32::from(signal)).ok()?;
        STOPPING.contains(&signal).then_some(SignalInterrupt(signal))
    };
    match &outcome.exit {
        CommandExit::Exited(0) => Ok(()),
        CommandExit::Exited(_) if !said.is_empty() => Err(anyhow!("in the VM: {said}")),
        CommandExit::Exited(code) => {
            Err(anyhow!("in the VM: the copy ended with exit code {code}"))
        }
        CommandExit::Signalled(signal) => match stopped(*signal) {
            Some(interrupted) => Err(interrupted.into()),
            None => Err(anyhow!("in the VM: the copy was killed by signal {signal}")),
        },
        CommandExit::NotStarted(failure) => Err(anyhow!("in the VM: {}", failure.message)),
        CommandExit::TimedOut | CommandExit::OutputClosed | CommandExit::HungUp(_) => {
            Err(Refusal::new(RefusalKind::Agent, "the copy in the VM was given up").into())
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::guest::CapturedOutput;

    fn ended(exit: CommandExit, said: &str) -> String {
        let stderr = CapturedOutput { bytes: said.into(), truncated: false };
        let stdout = CapturedOutput::default();
        let outcome = CommandOutcome { exit, stdout, stderr, duration: Duration::ZERO };
        ended_well(&outcome).unwrap_err().to_string()
    }

    #[test]
    fn a_guest_says_one_line_of_an_error() {
        let said = "there is no \"x\"\nmayfly: all is well\n";
        assert_eq!(ended(CommandExit::Exited(1), said), "in the VM: there is no \"x\"");
        assert_eq!(
            ended(CommandExit::Exited(1), "\n"),
            "in the VM: the copy ended with exit code 1"
        );
    }
}
