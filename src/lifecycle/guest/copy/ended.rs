//! How the copying agent in the VM ended.

use anyhow::{Result, anyhow};
use nix::sys::signal::Signal;

use crate::guest::{Exit, Outcome};
use crate::host::signals::{Interrupted, STOPPING};
use crate::model::{Kind, Refusal};

/// How much of what the copy in the VM says is kept: a line.
pub const SAYS_LIMIT: usize = 4096;

/// Whether the copy in the VM ended well; its error, if it did not.
pub fn ended_well(outcome: &Outcome) -> Result<()> {
    let said = String::from_utf8_lossy(&outcome.stderr.bytes);
    // One line is what the agent says; more would be a guest's that wants to be taken for us.
    let said = said.trim().lines().next().unwrap_or_default();
    let stopped = |signal: u8| {
        let signal = Signal::try_from(i32::from(signal)).ok()?;
        STOPPING.contains(&signal).then_some(Interrupted(signal))
    };
    match &outcome.exit {
        Exit::Exited(0) => Ok(()),
        Exit::Exited(_) if !said.is_empty() => Err(anyhow!("in the VM: {said}")),
        Exit::Exited(code) => Err(anyhow!("in the VM: the copy ended with exit code {code}")),
        Exit::Signalled(signal) => match stopped(*signal) {
            Some(interrupted) => Err(interrupted.into()),
            None => Err(anyhow!("in the VM: the copy was killed by signal {signal}")),
        },
        Exit::NotStarted(failure) => Err(anyhow!("in the VM: {}", failure.message)),
        Exit::TimedOut | Exit::OutputClosed | Exit::HungUp(_) => {
            Err(Refusal::new(Kind::Agent, "the copy in the VM was given up").into())
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::guest::Captured;

    fn ended(exit: Exit, said: &str) -> String {
        let stderr = Captured { bytes: said.into(), truncated: false };
        let stdout = Captured::default();
        let outcome = Outcome { exit, stdout, stderr, duration: Duration::ZERO };
        ended_well(&outcome).unwrap_err().to_string()
    }

    #[test]
    fn a_guest_says_one_line_of_an_error() {
        let said = "there is no \"x\"\nmayfly: all is well\n";
        assert_eq!(ended(Exit::Exited(1), said), "in the VM: there is no \"x\"");
        assert_eq!(ended(Exit::Exited(1), "\n"), "in the VM: the copy ended with exit code 1");
    }
}
