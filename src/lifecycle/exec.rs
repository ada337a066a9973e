//! Running a command in a started VM.

use std::os::fd::AsFd;

use anyhow::Result;

use super::manager::{HELLO, Manager, expired, this_boot};
use super::remove::{Removed, remove, remove_if_there};
use super::start::Started;
use super::timings::Timings;
use crate::backend::{self, Purpose};
use crate::guest::{ExecIo, Outcome, Session, Sink, Stdin};
use crate::host::clock;
use crate::host::process::PidFd;
use crate::host::signals::Signals;
use crate::host::wait::Wait;
use crate::model::record::reason;
use crate::model::{Kind, Refusal, VmId, VmRecord};
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
    let record = startable(manager, id)?;
    let instance = record.running()?;
    let vmm = PidFd::open(&instance.process)?
        .ok_or_else(|| Refusal::new(Kind::WrongState, format!("VM {id} has just ended")))?;
    let backend = manager.backend_of(&record.manifest)?;
    let mut wait = Wait::within(HELLO).watching(vmm.as_fd()).interruptible(signals);
    let session = manager.open_session(&record, backend.as_ref(), Purpose::Session, &mut wait)?;
    timings.end("connect");
    let keep = command.keep || record.manifest.keep;
    let outcome = converse(manager, &record, session, command, signals, timings)?;
    if keep {
        return Ok(Finished { outcome, cleanup: None });
    }
    let cleanup = Some(remove_if_there(manager, id, reason::POST_EXEC)?);
    timings.end("cleanup");
    Ok(Finished { outcome, cleanup })
}

/// Runs `command` in a VM that was just started for it, in the conversation that is open already. What
/// becomes of the VM is the caller's business.
pub fn exec_in(
    manager: &Manager,
    started: Started,
    command: Command,
    signals: &mut Signals,
    timings: &mut Timings,
) -> Result<Outcome> {
    converse(manager, &started.record, started.up.session, command, signals, timings)
}

fn converse(
    manager: &Manager,
    record: &VmRecord,
    mut session: Session,
    command: Command,
    signals: &mut Signals,
    timings: &mut Timings,
) -> Result<Outcome> {
    let Streams { stdin, stdout, stderr } = command.streams;
    let outcome = session
        .exec(&command.exec, ExecIo { stdin, stdout, stderr, signals })
        .map_err(|error| blame_the_clock(manager, record, error))?;
    backend::hang_up(session.is_clean(), session.into_channel());
    timings.end("exec");
    Ok(outcome)
}

/// A VM whose time is up ends by itself, and takes the command with it. That explains a lost agent.
fn blame_the_clock(manager: &Manager, record: &VmRecord, error: anyhow::Error) -> anyhow::Error {
    let lost = error.downcast_ref::<Refusal>().is_some_and(|refusal| refusal.kind == Kind::Agent);
    // It may have got more time while the command ran.
    let contents = manager.registry.read();
    let latest = contents.as_ref().ok().and_then(|contents| contents.vms.get(record.id()));
    match clock::now() {
        Ok(now) if lost && latest.unwrap_or(record).has_expired(&now) => {
            Refusal::new(Kind::Expired, format!("VM {} expired while the command ran", record.id()))
                .hint("give it more time with '--ttl'")
                .into()
        }
        _ => error,
    }
}

/// The record, one read, compared with the world; an expired VM is deleted and refused.
fn startable(manager: &Manager, id: &VmId) -> Result<VmRecord> {
    let record = manager.registry.read()?.get(id)?.clone();
    if record.has_expired(&clock::now()?) {
        remove(manager, id, reason::EXPIRED)?;
        return Err(expired(id).into());
    }
    manager.observe(record, &this_boot()?)
}
