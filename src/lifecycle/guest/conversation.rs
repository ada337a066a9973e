//! A connection to the agent of a started VM.

use std::os::fd::AsFd;

use anyhow::Result;

use super::defaults;
use crate::backend::StreamPurpose;
use crate::guest::AgentSession;
use crate::host::clock;
use crate::host::signals::PendingSignals;
use crate::host::wait::WaitLimit;
use crate::lifecycle::manager::{AGENT_TIMEOUT, VmManager};
use crate::lifecycle::start::StartedVm;
use crate::lifecycle::unexpired::observe_unexpired;
use crate::model::{Refusal, RefusalKind, VmId, VmRecord};
use crate::protocol::ExecRequest;

/// A connection to a VM's agent, for one request after another.
#[derive(Debug)]
pub struct AgentConversation<'a> {
    manager: &'a VmManager,
    pub record: VmRecord,
    session: AgentSession,
}

impl<'a> AgentConversation<'a> {
    /// Connects to a VM's agent. Holds no lock, so `stop` and `rm` can end it at any time.
    ///
    /// # Errors
    /// `NotFound`, `Expired`, `WrongState` if the VM is not started; `Agent` if its agent does not
    /// answer.
    pub fn begin(
        manager: &'a VmManager,
        id: &VmId,
        signals: &mut PendingSignals,
    ) -> Result<AgentConversation<'a>> {
        let record = observe_unexpired(manager, manager.registry.read()?.get(id)?.clone())?;
        record.running()?;
        let vmm = manager.running_vmm(&record)?;
        let mut wait =
            WaitLimit::within(AGENT_TIMEOUT).watching(vmm.as_fd()).interruptible(signals);
        let session = manager.connect(&record, StreamPurpose::Session, &mut wait)?;
        Ok(AgentConversation { manager, record, session })
    }

    /// The connection that a start has opened.
    pub fn of(manager: &'a VmManager, started: StartedVm) -> AgentConversation<'a> {
        AgentConversation { manager, record: started.record, session: started.booted.session }
    }

    /// Adds the VM's command defaults to a command.
    pub fn add_defaults(&self, exec: &mut ExecRequest) -> Result<()> {
        defaults::add_saved(self.manager, self.record.id(), exec)
    }

    /// Makes a request.
    ///
    /// # Errors
    /// The errors of `ask`; `Expired` if the agent is gone because the VM has expired.
    pub fn ask<T>(&mut self, ask: impl FnOnce(&mut AgentSession) -> Result<T>) -> Result<T> {
        ask(&mut self.session).map_err(|error| explain_expiry(self.manager, &self.record, error))
    }

    /// Closes the connection, so that another command can use the line.
    pub fn end(self) {
        self.session.hang_up();
    }
}

/// An expired VM ends by itself and ends the command with it. That explains why the agent is gone.
fn explain_expiry(manager: &VmManager, record: &VmRecord, error: anyhow::Error) -> anyhow::Error {
    let is_lost = Refusal::is_of_kind(&error, RefusalKind::Agent);
    // The VM may have been given more time while the command ran.
    let contents = manager.registry.read();
    let latest = contents.as_ref().ok().and_then(|contents| contents.vms.get(record.id()));
    match clock::now() {
        Ok(now) if is_lost && latest.unwrap_or(record).has_expired(&now) => {
            let message = format!("VM {} expired while the command ran", record.id());
            let refusal = Refusal::new(RefusalKind::Expired, message);
            refusal.hint("give it more time with '--ttl'").into()
        }
        _ => error,
    }
}
