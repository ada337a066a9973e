//! Running a command in a started VM.

use anyhow::Result;

use super::conversation::Conversation;
use crate::guest::{ExecIo, Outcome, Sink, Stdin};
use crate::host::signals::Signals;
use crate::lifecycle::manager::Manager;
use crate::lifecycle::recover::teardown::Removed;
use crate::lifecycle::remove::remove_if_there;
use crate::lifecycle::timings::Timings;
use crate::model::VmId;
use crate::model::record::reason;
use crate::protocol::Exec;

/// A command and what connects it with this side.
#[derive(Debug)]
pub struct Command {
    pub exec: Exec,
    pub streams: Streams,
    /// Keep the VM whatever its record says.
    pub keep: bool,
}

/// This side's ends of a command's three streams.
#[derive(Debug)]
pub struct Streams {
    pub stdin: Option<Stdin>,
    pub stdout: Sink,
    pub stderr: Sink,
}

/// A command that ran to its end.
#[derive(Debug)]
pub struct Finished {
    pub outcome: Outcome,
    /// The deletion that followed, unless the VM is kept.
    pub cleanup: Option<Removed>,
}

/// Runs `command` and, unless the VM is kept, deletes the VM afterwards. Holds no lock while the
/// command runs, so `stop` and `rm` can always end it.
///
/// Errors are mayfly's own; the VM is then left as it is, for a look at it.
pub fn exec(
    manager: &Manager,
    id: &VmId,
    command: Command,
    signals: &mut Signals,
    timings: &mut Timings,
) -> Result<Finished> {
    let mut conversation = Conversation::begin(manager, id, signals)?;
    timings.end("connect");
    let keep = command.keep || conversation.record.manifest.keep;
    let outcome = run_in(&mut conversation, command, signals, timings)?;
    conversation.end();
    if keep {
        return Ok(Finished { outcome, cleanup: None });
    }
    let cleanup = Some(remove_if_there(manager, id, reason::POST_EXEC)?);
    timings.end("cleanup");
    Ok(Finished { outcome, cleanup })
}

/// Runs `command` and leaves the conversation open. What becomes of the VM is the caller's business.
pub fn run_in(
    conversation: &mut Conversation<'_>,
    command: Command,
    signals: &mut Signals,
    timings: &mut Timings,
) -> Result<Outcome> {
    let Command { mut exec, streams, .. } = command;
    conversation.complete(&mut exec)?;
    let Streams { stdin, stdout, stderr } = streams;
    let io = ExecIo { stdin, stdout, stderr, signals };
    let outcome = conversation.ask(|session| session.exec(&exec, io))?;
    timings.end("exec");
    Ok(outcome)
}
