//! A connection to the agent of a started VM.

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use anyhow::Result;

use super::defaults;
use super::denial_watch::{DenialNotes, DenialWatch};
use super::outlook::RegisteredVm;
use crate::backend::StreamPurpose;
use crate::guest::AgentSession;
use crate::host::cgroup;
use crate::host::launcher::ReleasedChild;
use crate::host::signals::PendingSignals;
use crate::host::wait::WaitLimit;
use crate::lifecycle::full_disk::{FullDiskWatch, refuse_waiting};
use crate::lifecycle::manager::{AGENT_TIMEOUT, VmManager};
use crate::lifecycle::network::replace_lost;
use crate::lifecycle::start::StartedVm;
use crate::lifecycle::unexpired::observe_unexpired;
use crate::model::{Refusal, RefusalKind, VmId, VmRecord};
use crate::protocol::ExecRequest;
use crate::sys::process::Signal;

/// How long a VMM that was killed may take until its parent learns it.
const DEATH_LIMIT: Duration = Duration::from_millis(500);

/// A connection to a VM's agent, for one request after another.
#[derive(Debug)]
pub struct AgentConversation<'a> {
    manager: &'a VmManager,
    pub record: VmRecord,
    pub session: AgentSession,
    watch: FullDiskWatch,
    /// Those of its processes that this command has started: the VMM first, if it is one of them.
    children: Vec<ReleasedChild>,
}

impl<'a> AgentConversation<'a> {
    /// Connects to a VM's agent. Starts the VM's network helper again if that is gone. Holds no lock then, so `stop` and `rm` can end it at any time.
    ///
    /// # Errors
    /// `NotFound`, `Expired`, `WrongState` if the VM is not started; `Host` if it waits for room; `Agent` if its agent does not
    /// answer.
    pub fn begin(
        manager: &'a VmManager,
        id: &VmId,
        signals: &mut PendingSignals,
    ) -> Result<AgentConversation<'a>> {
        let record = observe_unexpired(manager, manager.registry.read()?.get(id)?.clone())?;
        record.running()?;
        let vmm = manager.running_vmm(&record)?;
        refuse_waiting(manager, &record)?;
        let watch = FullDiskWatch::begin(manager, &record);
        let mut wait =
            WaitLimit::within(AGENT_TIMEOUT).watching(vmm.as_fd()).interruptible(signals);
        let helper = replace_lost(manager, &record, &mut wait)?;
        let session = manager.connect(&record, StreamPurpose::Session, &mut wait)?;
        Ok(AgentConversation::new(manager, record, session, watch, helper.into_iter().collect()))
    }

    /// The connection that a start has opened.
    pub fn of(manager: &'a VmManager, started: StartedVm) -> AgentConversation<'a> {
        let watch = FullDiskWatch::begin(manager, &started.record);
        let StartedVm { record, booted } = started;
        AgentConversation::new(manager, record, booted.session, watch, booted.children)
    }

    fn new(
        manager: &'a VmManager,
        record: VmRecord,
        mut session: AgentSession,
        watch: FullDiskWatch,
        children: Vec<ReleasedChild>,
    ) -> Self {
        session.watch(Box::new(RegisteredVm::new(manager, &record, watch.waits.clone())));
        AgentConversation { manager, record, session, watch, children }
    }

    /// Tells what the VM is denied on the network from now on. `kept` says whether the VM outlives the command.
    pub fn tell_denials(&mut self, notes: DenialNotes, kept: bool) {
        let (manager, record) = (self.manager, &self.record);
        if record.manifest.network.is_none() {
            return;
        }
        let log = manager.paths(record.id()).network_log();
        let denials = DenialWatch::begin(&log, record.manifest.display_name(), notes, kept);
        let vm = RegisteredVm::new(manager, record, self.watch.waits.clone());
        self.session.watch(Box::new(vm.telling(denials)));
    }

    /// Adds the VM's command defaults to a command.
    pub fn add_defaults(&self, exec: &mut ExecRequest) -> Result<()> {
        defaults::add_saved(self.manager, self.record.id(), exec)
    }

    /// The cause of an error that came from the agent, if it is that a VMM this command has started was killed.
    pub fn explain(mut self, error: anyhow::Error) -> anyhow::Error {
        if !Refusal::is_of_kind(&error, RefusalKind::Agent) {
            return error;
        }
        self.session.hang_up();
        // The connection ends before the process does.
        let deadline = Instant::now() + DEATH_LIMIT;
        let signal = loop {
            let signal = self.children.first_mut().and_then(ReleasedChild::killed_by);
            if signal.is_some() || self.children.is_empty() || Instant::now() >= deadline {
                break signal;
            }
            std::thread::sleep(DEATH_LIMIT / 50);
        };
        let Some(signal) = signal else { return error };
        let name = self.record.manifest.display_name();
        let message = format!("{signal} killed the VMM of VM {name}");
        let hint = if signal == Signal::SIGKILL && cgroup::has_lacked_memory() {
            "the memory limit of this control group (of a job, service or container) was reached: raise it, or give the VM less with --mem"
        } else {
            "another process did that, or the kernel for lack of memory: see dmesg"
        };
        Refusal::new(RefusalKind::Agent, message).hint(hint).into()
    }

    /// Closes the connection, so that another command can use the line.
    pub fn end(self) {
        self.session.hang_up();
    }
}
