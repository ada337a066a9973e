//! Copying files into a VM and out of one: a command in the VM that is the agent itself, with a thread
//! here that makes a stream of a tree, or a tree of a stream. What arrives is put in its place when both
//! have ended well, here as there.

mod alarm;
mod beside;
mod fetch;
mod send;

pub use fetch::copy_out;
pub use send::copy_in;

use std::os::fd::OwnedFd;
use std::path::PathBuf;

use anyhow::{Result, anyhow};
use nix::sys::signal::Signal;

use crate::archive::Destination;
use crate::guest::{Exit, Outcome};
use crate::host::signals::{Interrupted, STOPPING};
use crate::model::{Kind, Limits, Refusal};
use crate::protocol::{Exec, Program, Text};

/// How much of what the copy in the VM says is kept: a line.
const SAYS_LIMIT: usize = 4096;

/// Something to be copied into a VM.
#[derive(Debug)]
pub struct CopyIn {
    pub parcel: Parcel,
    /// Where to, in the VM: docker cp's rules.
    pub to: Text,
    /// Make the directories above that are not there.
    pub parents: bool,
    pub who: Who,
}

/// What is copied in.
#[derive(Debug)]
pub enum Parcel {
    Tree {
        path: PathBuf,
        /// If it is a link, copy what it leads to.
        follow: bool,
        /// Of a directory, only what is in it, whatever its name.
        contents: bool,
        /// Leave out what git ignores.
        exclude_ignored: bool,
    },
    /// A tar archive, of any kind.
    Archive(OwnedFd),
}

/// Something to be copied out of a VM.
#[derive(Debug)]
pub struct CopyOut {
    /// Where it is, in the VM.
    pub path: Text,
    /// If it is a link, copy what it leads to.
    pub follow: bool,
    pub to: Store,
    pub who: Who,
}

/// Where it goes.
#[derive(Debug)]
pub enum Store {
    Place(Destination),
    /// A tar archive.
    Archive(OwnedFd),
}

/// Who copies in the VM, and where relative paths begin; by default as for commands.
#[derive(Debug, Clone, Default)]
pub struct Who {
    pub user: Option<String>,
    pub cwd: Option<Text>,
}

fn request(program: Program, who: Who, stdin: bool) -> Exec {
    Exec { user: who.user, cwd: who.cwd, stdin, ..Exec::of(program) }
}

/// Whether the copy in the VM ended well; its error, if it did not.
fn ended_well(outcome: &Outcome) -> Result<()> {
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

/// How much may come out of a VM.
fn quota_of(limits: &Limits) -> crate::archive::Quota {
    crate::archive::Quota::new(limits.copy_out_mib.saturating_mul(1 << 20), limits.copy_out_files)
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
