//! `exec`: running a command in a started VM.

use anyhow::{Context, Result};

use super::conversation::AgentConversation;
use super::denial_watch::DenialNotes;
use crate::guest::{CommandExit, CommandOutcome, ExecIo, OutputSink, StdinSource};
use crate::host::signals::PendingSignals;
use crate::lifecycle::manager::VmManager;
use crate::lifecycle::removal::RemovalReport;
use crate::lifecycle::remove::remove_if_there;
use crate::lifecycle::timings::PhaseTimings;
use crate::model::record::reason;
use crate::model::{VmId, VmManifest};
use crate::protocol::ExecRequest;

/// A command and its streams.
#[derive(Debug)]
pub struct ExecCommand {
    pub exec: ExecRequest,
    pub streams: ExecStreams,
    /// Whether to keep the VM; `None` leaves it to its record.
    pub keep: Option<bool>,
    /// How to tell what the VM is denied on the network.
    pub denials: DenialNotes,
}

/// Our ends of a command's three streams.
#[derive(Debug)]
pub struct ExecStreams {
    pub stdin: Option<StdinSource>,
    pub stdout: OutputSink,
    pub stderr: OutputSink,
}

/// A command that has ended.
#[derive(Debug)]
pub struct FinishedCommand {
    /// The VM as it was when the command began.
    pub vm: VmManifest,
    pub outcome: CommandOutcome,
    /// The deletion that followed, unless the VM is kept.
    pub cleanup: Option<RemovalReport>,
}

/// Runs `command` and then deletes the VM, unless it is kept. Holds no lock while the command runs, so
/// `stop` and `rm` can end it at any time.
///
/// # Errors
/// Any failure other than the command's own. The VM is not deleted then.
pub fn exec(
    manager: &VmManager,
    id: &VmId,
    command: ExecCommand,
    signals: &mut PendingSignals,
    timings: &mut PhaseTimings,
) -> Result<FinishedCommand> {
    let mut conversation = AgentConversation::begin(manager, id, signals)?;
    timings.end("connect");
    let keep = command.keep.unwrap_or(conversation.record.manifest.keep);
    let outcome = run_in(&mut conversation, command, signals, timings)?;
    // Another command has decided what becomes of a VM that it stopped.
    let keep = keep || outcome.exit == CommandExit::VmStopped;
    let vm = conversation.record.manifest.clone();
    conversation.end();
    if keep {
        return Ok(FinishedCommand { vm, outcome, cleanup: None });
    }
    let removed = remove_if_there(manager, id, reason::POST_EXEC)
        .context("the command has ended, but its VM is not deleted")?;
    let cleanup = Some(removed);
    timings.end("cleanup");
    Ok(FinishedCommand { vm, outcome, cleanup })
}

/// Runs `command` and keeps the connection and the VM.
pub fn run_in(
    conversation: &mut AgentConversation<'_>,
    command: ExecCommand,
    signals: &mut PendingSignals,
    timings: &mut PhaseTimings,
) -> Result<CommandOutcome> {
    let ExecCommand { mut exec, streams, keep, denials } = command;
    // `run` keeps the VM of its own by other means.
    let kept = conversation.record.manifest.owner.is_none()
        && keep.unwrap_or(conversation.record.manifest.keep);
    conversation.tell_denials(denials, kept);
    conversation.add_defaults(&mut exec)?;
    let ExecStreams { stdin, stdout, stderr } = streams;
    let io = ExecIo { stdin, stdout, stderr, signals };
    let outcome = conversation.session.exec(&exec, io)?;
    timings.end("exec");
    Ok(outcome)
}
