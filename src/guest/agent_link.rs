//! The connection to the agent and its two buffers.

use std::io::{ErrorKind, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};

use anyhow::Result;

use crate::host::agent_channel::AgentChannel;
use crate::host::wait::WaitLimit;
use crate::model::{Refusal, RefusalKind};
use crate::protocol::{self, Frame, FrameInbox, FrameOutbox, FrameSide, ProtocolViolation};
use crate::sys::nonblocking::would_block;
use crate::sys::poll::PollFlags;

/// A connection to an agent. Reading and writing never block; the caller waits.
#[derive(Debug)]
pub(super) struct AgentLink {
    channel: AgentChannel,
    pub inbox: FrameInbox,
    pub outbox: FrameOutbox,
    /// The session's nonce.
    pub tag: u64,
}

impl AgentLink {
    pub fn new(channel: AgentChannel) -> Result<AgentLink> {
        channel.stream.set_nonblocking(true)?;
        Ok(AgentLink {
            channel,
            inbox: FrameInbox::default(),
            outbox: FrameOutbox::default(),
            tag: 0,
        })
    }

    /// Returns the channel with its claim.
    pub fn into_channel(self) -> AgentChannel {
        self.channel
    }

    /// Reads what has arrived.
    ///
    /// # Errors
    /// A [`Refusal`] of kind `Agent`: the agent is gone.
    pub fn receive(&mut self) -> Result<()> {
        let space = self.inbox.space();
        if space.is_empty() {
            return Ok(());
        }
        match (&self.channel.stream).read(space) {
            Ok(0) => Err(lost()),
            Ok(count) => {
                self.inbox.filled(count);
                Ok(())
            }
            Err(error) if would_block(&error) => Ok(()),
            Err(error) => Err(anyhow::Error::new(error).context(lost())),
        }
    }

    /// Writes as much as the transport has room for.
    ///
    /// # Errors
    /// A [`Refusal`] of kind `Agent`: the agent is gone.
    pub fn flush(&mut self) -> Result<()> {
        while !self.outbox.is_empty() {
            match (&self.channel.stream).write(self.outbox.pending()) {
                Ok(count) => self.outbox.sent(count),
                Err(error) if would_block(&error) => break,
                // The agent's last message may tell why; reading it comes to the end of the stream.
                Err(error) if error.kind() == ErrorKind::BrokenPipe => {
                    self.outbox.clear();
                }
                Err(error) => return Err(anyhow::Error::new(error).context(lost())),
            }
        }
        Ok(())
    }

    /// Takes the next complete frame of this session.
    pub fn next(&mut self) -> Result<Option<Frame<'_>>, ProtocolViolation> {
        self.inbox.next_frame(FrameSide::Agent, self.tag)
    }

    /// Queues one request, and waits for room if it needs more than one frame.
    ///
    /// # Errors
    /// Those of [`WaitLimit::ready`] and [`AgentLink::flush`].
    pub fn send(
        &mut self,
        kind: protocol::FrameKind,
        payload: &[u8],
        wait: &mut WaitLimit<'_>,
    ) -> Result<()> {
        let mut rest = payload;
        while rest.len() > protocol::MAX_PAYLOAD {
            let (part, tail) = rest.split_at(protocol::MAX_PAYLOAD);
            self.make_room(wait)?;
            self.outbox.push(protocol::FrameKind::ExecPart, self.tag, part);
            rest = tail;
        }
        self.make_room(wait)?;
        self.outbox.push(kind, self.tag, rest);
        self.flush()
    }

    fn make_room(&mut self, wait: &mut WaitLimit<'_>) -> Result<()> {
        self.flush()?;
        while !self.outbox.takes_data() {
            let stream = self.channel.stream.as_fd();
            wait.ready(stream, PollFlags::POLLOUT, None, "room for a request")?;
            self.flush()?;
        }
        Ok(())
    }
}

impl AsFd for AgentLink {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.channel.stream.as_fd()
    }
}

/// The error for a connection that ended too early.
pub(super) fn lost() -> anyhow::Error {
    let message = "the agent went away before it answered";
    Refusal::new(RefusalKind::Agent, message)
        .hint("the VM may have crashed or been stopped: mayfly status shows it")
        .into()
}

/// The error for a protocol violation.
pub(super) fn broken(violation: &ProtocolViolation) -> anyhow::Error {
    Refusal::new(RefusalKind::Agent, format!("the agent broke the protocol: {violation}")).into()
}
