//! A conversation with the agent of a started VM.

use std::os::fd::AsFd;

use anyhow::Result;

use super::defaults;
use crate::backend::{self, StreamPurpose};
use crate::guest::AgentSession;
use crate::host::clock;
use crate::host::process;
use crate::host::signals::PendingSignals;
use crate::host::wait::WaitLimit;
use crate::lifecycle::manager::{HELLO, VmManager};
use crate::lifecycle::start::StartedVm;
use crate::lifecycle::unexpired::observe_unexpired;
use crate::model::{Refusal, RefusalKind, VmId, VmRecord};
use crate::protocol::ExecRequest;

/// Somebody to ask for something, and to ask again.
#[derive(Debug)]
pub struct AgentConversation<'a> {
    manager: &'a VmManager,
    pub record: VmRecord,
    session: AgentSession,
}

impl<'a> AgentConversation<'a> {
    /// Begins one. Holds no lock, then or later, so `stop` and `rm` can always end it.
    ///
    /// # Errors
    /// A VM that is not started, or whose agent does not answer.
    pub fn begin(
        manager: &'a VmManager,
        id: &VmId,
        signals: &mut PendingSignals,
    ) -> Result<AgentConversation<'a>> {
        let record = observe_unexpired(manager, manager.registry.read()?.get(id)?.clone())?;
        let instance = record.running()?;
        let vmm = process::open(&instance.process)?.ok_or_else(|| {
            Refusal::new(RefusalKind::WrongState, format!("VM {id} has just ended"))
        })?;
        let backend = manager.backend_of(&record.manifest)?;
        let mut wait = WaitLimit::within(HELLO).watching(vmm.as_fd()).interruptible(signals);
        let session =
            manager.open_session(&record, backend.as_ref(), StreamPurpose::Session, &mut wait)?;
        Ok(AgentConversation { manager, record, session })
    }

    /// The one that is open already with a VM that was just started.
    pub fn of(manager: &'a VmManager, started: StartedVm) -> AgentConversation<'a> {
        AgentConversation { manager, record: started.record, session: started.up.session }
    }

    /// Completes a command with what its VM keeps for those that leave it open.
    pub fn complete(&self, exec: &mut ExecRequest) -> Result<()> {
        defaults::complete(self.manager, self.record.id(), exec)
    }

    /// Asks for something.
    ///
    /// # Errors
    /// What `ask` says; a VM whose time was up meanwhile explains a lost agent.
    pub fn ask<T>(&mut self, ask: impl FnOnce(&mut AgentSession) -> Result<T>) -> Result<T> {
        ask(&mut self.session).map_err(|error| blame_the_clock(self.manager, &self.record, error))
    }

    /// Ends it, and leaves the line to the next.
    pub fn end(self) {
        backend::hang_up(self.session.is_clean(), self.session.into_channel());
    }
}

/// A VM whose time is up ends by itself, and takes the command with it. That explains a lost agent.
fn blame_the_clock(manager: &VmManager, record: &VmRecord, error: anyhow::Error) -> anyhow::Error {
    let lost = Refusal::is_of_kind(&error, RefusalKind::Agent);
    // It may have got more time while the command ran.
    let contents = manager.registry.read();
    let latest = contents.as_ref().ok().and_then(|contents| contents.vms.get(record.id()));
    match clock::now() {
        Ok(now) if lost && latest.unwrap_or(record).has_expired(&now) => Refusal::new(
            RefusalKind::Expired,
            format!("VM {} expired while the command ran", record.id()),
        )
        .hint("give it more time with '--ttl'")
        .into(),
        _ => error,
    }
}
