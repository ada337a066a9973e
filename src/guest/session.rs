//! Opening a session, and requests that are answered with one frame.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde::Serialize;
use std::os::fd::{AsFd, BorrowedFd};

use super::agent_link::{AgentLink, broken};
use super::outlook::{VmEnding, VmOutlook};
use crate::host::agent_channel::AgentChannel;
use crate::host::signals::SignalNumber;
use crate::host::wait::WaitLimit;
use crate::model::{Refusal, RefusalKind};
use crate::protocol::{
    self, AgentFailure, AgentInfo, FLUSH, FrameKind, Hello, ProtocolViolation, SetupRequest,
    ShutdownRequest, SignalRequest, TtlRequest, VERSION,
};
use crate::sys::poll::PollFlags;
use crate::sys::random;

/// After this long without an answer, `Hello` is sent again, as the first may be lost; each further attempt
/// waits twice as long. An idle agent answers within a few milliseconds, an emulated one that was just restored
/// within 300.
const FIRST_ATTEMPT: Duration = Duration::from_millis(250);

/// The longest pause between attempts.
const LAST_ATTEMPT: Duration = Duration::from_secs(4);

/// One client's use of the connection to an agent.
#[derive(Debug)]
pub struct AgentSession {
    pub(super) link: AgentLink,
    agent: AgentInfo,
    /// No request is in progress, so the next client can start at once.
    pub(super) idle: bool,
    pub(super) outlook: Option<Box<dyn VmOutlook>>,
}

impl AgentSession {
    /// Greets the agent. `dirty` says that an earlier client may have been killed in the middle of a frame;
    /// then zeros are sent first, to complete that frame. Without `dirty` they are sent only if no answer
    /// comes.
    ///
    /// # Errors
    /// - [`Refusal`] of kind `Agent`: the agent did not answer in time, violated the protocol or has another
    ///   protocol version, or the VM ended.
    /// - [`SignalInterrupt`](crate::host::signals::SignalInterrupt): a signal arrived.
    pub fn open(
        channel: AgentChannel,
        dirty: bool,
        wait: &mut WaitLimit<'_>,
    ) -> Result<AgentSession> {
        let mut link = AgentLink::new(channel)?;
        greet(&mut link, dirty)?;
        let mut pause = FIRST_ATTEMPT;
        let mut next_attempt = Instant::now() + pause;
        let ack = loop {
            if let Some(ack) = link.inbox.find_ack(link.tag) {
                break ack;
            }
            let events = events(&link);
            if wait.ready(link.as_fd(), events, Some(next_attempt), "its greeting")? {
                link.flush()?;
                link.receive()?;
            }
            // Even while bytes arrive: they may belong to an earlier session and never end.
            if Instant::now() >= next_attempt {
                pause = LAST_ATTEMPT.min(pause * 2);
                next_attempt = Instant::now() + pause;
                // An attempt that is still in the outbox cannot have been lost.
                if link.outbox.is_empty() {
                    greet(&mut link, true)?;
                }
            }
        };
        if ack.version != VERSION {
            return Err(other_version(ack.version));
        }
        let agent = await_reply(&mut link, wait, "its introduction", |frame| match frame.kind {
            FrameKind::AgentInfo => frame.json::<AgentInfo>(),
            kind => Err(ProtocolViolation::Unexpected(kind)),
        })?;
        Ok(AgentSession { link, agent, idle: true, outlook: None })
    }

    /// Ends commands with their VM, whatever its agent does, and tells why they ended.
    pub fn watch(&mut self, outlook: Box<dyn VmOutlook>) {
        self.outlook = Some(outlook);
    }

    /// When the VM expires.
    pub(super) fn expires(&self) -> Option<Instant> {
        self.outlook.as_ref()?.expires()
    }

    /// The VM's name, or its id.
    pub(super) fn name(&self) -> &str {
        self.outlook.as_ref().map_or("", |outlook| outlook.name())
    }

    /// Why the VM ends.
    pub(super) fn ending(&self) -> Option<VmEnding> {
        self.outlook.as_ref()?.ending()
    }

    /// Readable when there may be news of the VM.
    pub(super) fn news_source(&self) -> Option<BorrowedFd<'_>> {
        self.outlook.as_ref()?.news_source()
    }

    /// Whether the guest is paused.
    pub(super) fn is_waiting(&self) -> bool {
        self.outlook.as_ref().is_some_and(|outlook| outlook.is_waiting())
    }

    /// What the agent reported about itself. Escape it before printing: the guest may have forged it.
    pub fn agent(&self) -> &AgentInfo {
        &self.agent
    }

    /// Sets a guest's time, name and TTL, and sends it entropy.
    ///
    /// # Errors
    /// A [`Refusal`] of kind `Agent` with the agent's reason; those of [`AgentSession::open`].
    pub fn setup(&mut self, setup: &SetupRequest, wait: &mut WaitLimit<'_>) -> Result<()> {
        self.ask(FrameKind::Setup, setup, wait, "setting up")
    }

    /// Sets a guest's TTL, from now.
    ///
    /// # Errors
    /// As for [`AgentSession::setup`].
    pub fn set_ttl(&mut self, ttl: Duration, wait: &mut WaitLimit<'_>) -> Result<()> {
        let ttl_ms = u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX);
        self.ask(FrameKind::Ttl, &TtlRequest { ttl_ms }, wait, "giving more time")
    }

    /// Asks the agent to shut the VM down: its processes have `grace` between SIGTERM and SIGKILL. Returns when
    /// the agent has begun; the VM has ended when its VMM has.
    ///
    /// # Errors
    /// As for [`AgentSession::setup`].
    pub fn shutdown(&mut self, grace: Duration, wait: &mut WaitLimit<'_>) -> Result<()> {
        let grace_ms = u64::try_from(grace.as_millis()).unwrap_or(u64::MAX);
        self.ask(FrameKind::Shutdown, &ShutdownRequest { grace_ms }, wait, "shutting down")
    }

    /// Passes a signal on to the command.
    pub(super) fn signal(&mut self, signal: SignalNumber) -> Result<()> {
        let request = SignalRequest { number: signal.number() };
        let json = serde_json::to_vec(&request).context("encode a signal")?;
        // If there is no room even for this, the agent does not read.
        if self.link.outbox.takes_control() {
            self.link.outbox.push(FrameKind::Signal, self.link.tag, &json);
        }
        self.link.flush()
    }

    /// Whether the next client can start without `dirty`.
    pub fn is_clean(&self) -> bool {
        self.idle && self.link.outbox.is_empty() && self.link.inbox.is_empty()
    }

    /// Ends the session, and marks its port as clean if it is.
    pub fn hang_up(self) {
        let is_clean = self.is_clean();
        if let Some(claim) = self.link.into_channel().claim.filter(|_| is_clean) {
            claim.leave_clean();
        }
    }

    fn ask(
        &mut self,
        kind: FrameKind,
        request: &impl Serialize,
        wait: &mut WaitLimit<'_>,
        what: &str,
    ) -> Result<()> {
        let json = serde_json::to_vec(request).context("encode a request")?;
        self.idle = false;
        self.link.send(kind, &json, wait)?;
        let answer = await_reply(&mut self.link, wait, what, |frame| match frame.kind {
            FrameKind::Done => Ok(Ok(())),
            FrameKind::Error => Ok(Err(frame.json::<AgentFailure>()?)),
            kind => Err(ProtocolViolation::Unexpected(kind)),
        })?;
        self.idle = true;
        answer.map_err(|failure| {
            let message = format!("the agent failed at {what}: {}", failure.message);
            Refusal::new(RefusalKind::Agent, message).into()
        })
    }
}

fn greet(link: &mut AgentLink, flush: bool) -> Result<()> {
    link.tag = u64::from_ne_bytes(random::bytes()?);
    if flush {
        link.outbox.push_raw(&[0; FLUSH]);
    }
    link.outbox.push_raw(&Hello { version: VERSION, nonce: link.tag }.encode());
    link.flush()
}

fn await_reply<T>(
    link: &mut AgentLink,
    wait: &mut WaitLimit<'_>,
    what: &str,
    mut read: impl FnMut(&protocol::Frame<'_>) -> Result<T, ProtocolViolation>,
) -> Result<T> {
    loop {
        match link.next() {
            Ok(Some(frame)) => return read(&frame).map_err(|violation| broken(&violation)),
            Ok(None) => {}
            Err(violation) => return Err(broken(&violation)),
        }
        let events = events(link);
        wait.ready(link.as_fd(), events, None, what)?;
        link.flush()?;
        link.receive()?;
    }
}

fn events(link: &AgentLink) -> PollFlags {
    if link.outbox.is_empty() { PollFlags::POLLIN } else { PollFlags::POLLIN | PollFlags::POLLOUT }
}

fn other_version(version: u32) -> anyhow::Error {
    let message =
        format!("the VM's agent has protocol version {version}, this mayfly has {VERSION}");
    Refusal::new(RefusalKind::Agent, message)
        .hint(
            "stop and start the VM; if that does not help, install mayfly and mayfly-agent of one version",
        )
        .into()
}
