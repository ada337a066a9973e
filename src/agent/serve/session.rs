//! One session on a stream, from the answer to a `Hello` until the client goes away or violates the
//! protocol. It uses one thread, one `poll` and buffers of fixed size.

use std::fs::File;
use std::io::IoSlice;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use serde::Serialize;

use super::host_stream::HostStream;
use crate::agent::command::{OutputRelay, RunningCommand, failure};
use crate::agent::console;
use crate::agent::vm::{AgentContext, shutdown};
use crate::protocol::{
    AgentFailure, ExecRequest, ExecStarted, FailureKind, Frame, FrameInbox, FrameKind, FrameOutbox,
    FrameSide, Hello, HelloAck, MAX_REQUEST, ProtocolViolation, ReceivedSecrets, SetupRequest,
    ShutdownRequest, SignalRequest, StdinCredit, TtlRequest, VERSION,
};
use crate::sys::nonblocking::would_block;
use crate::sys::poll::{self, PollFlags};

/// How long the VM waits with its end until the client has the answer.
const ANSWER_LIMIT: Duration = Duration::from_millis(200);

/// Why a session is over.
#[derive(Debug, PartialEq, Eq)]
pub enum SessionEnd {
    /// The client went away.
    ClientGone,
    /// The client violated the protocol, or the inbox has the next client's `Hello`.
    Violation,
}

impl From<ProtocolViolation> for SessionEnd {
    fn from(_: ProtocolViolation) -> SessionEnd {
        SessionEnd::Violation
    }
}

/// Serves one session. Its command does not outlive it ([`RunningCommand::abandon`]).
pub fn serve(
    hello: Hello,
    stream: &HostStream,
    inbox: &mut FrameInbox,
    outbox: &mut FrameOutbox,
    context: &AgentContext,
) -> SessionEnd {
    outbox.clear();
    let mut session = Session {
        context,
        tag: hello.nonce,
        outbox,
        request: Vec::new(),
        secrets: ReceivedSecrets::default(),
        received_secrets: false,
        command: None,
        finished: None,
        relay: (!stream.is_connection()).then(OutputRelay::default),
        shutdown: None,
    };
    session.outbox.push_raw(&HelloAck { version: VERSION, nonce: hello.nonce }.encode());
    session.answer(FrameKind::AgentInfo, &context.info);
    let end = loop {
        if let Err(end) = session.turn(stream, inbox) {
            break end;
        }
    };
    if session.received_secrets {
        inbox.wipe();
    }
    if let Some(command) = session.command {
        command.abandon(&context.reaper);
    }
    end
}

struct Session<'a> {
    context: &'a AgentContext,
    tag: u64,
    outbox: &'a mut FrameOutbox,
    /// The parts of an `Exec` received so far.
    request: Vec<u8>,
    /// Its secrets, which are sent before it.
    secrets: ReceivedSecrets,
    /// Whether the inbox still has secrets, and must be wiped.
    received_secrets: bool,
    command: Option<RunningCommand>,
    /// The last command, until its exit is sent and there is time to clean up.
    finished: Option<RunningCommand>,
    /// Output of the command that is on its way to the port; it was read before what is in the outbox. `None` on a
    /// connection, where moving pages is no faster.
    relay: Option<OutputRelay>,
    /// The deadline for sending the answer and the grace period, if the host asked for the VM's end.
    shutdown: Option<(Instant, Duration)>,
}

/// What a descriptor in a call of `poll` belongs to.
#[derive(Clone, Copy, PartialEq)]
enum PollSource {
    Stream,
    Exit,
    Input,
    Output,
}

impl Session<'_> {
    /// Handles what the host sent, reports what the command did, and waits for more of both.
    fn turn(&mut self, stream: &HostStream, inbox: &mut FrameInbox) -> Result<(), SessionEnd> {
        while self.outbox.takes_control() {
            // All that has arrived at once: if the command read each frame by itself, an emulated guest would mostly
            // switch between the two processes.
            let mut input = inbox.next_payloads(FrameKind::Stdin, self.tag)?;
            if !input.is_empty() {
                self.feed(&mut input)?;
            }
            let Some(frame) = inbox.next_frame(FrameSide::Host, self.tag)? else { break };
            self.handle(&frame)?;
        }
        if std::mem::take(&mut self.received_secrets) {
            inbox.wipe();
        }
        self.advance();
        self.flush(stream)?;
        self.clean_up();
        if let Some((deadline, grace)) = self.shutdown
            && (self.outbox.is_empty() || Instant::now() >= deadline)
        {
            shutdown::end(self.context, grace);
        }
        let ready = self.wait(stream);
        if let Some(command) = &mut self.command {
            if ready.contains(&PollSource::Input) {
                command.input.write_waiting();
            }
            if ready.contains(&PollSource::Output) {
                command.read_outputs(self.outbox, self.relay.as_mut(), self.tag);
            }
        }
        if ready.contains(&PollSource::Stream) {
            self.receive(stream, inbox)?;
        }
        Ok(())
    }

    fn handle(&mut self, frame: &Frame<'_>) -> Result<(), ProtocolViolation> {
        match frame.kind {
            FrameKind::Setup => {
                let setup: SetupRequest = frame.json()?;
                self.report(self.context.set_up(&setup));
            }
            FrameKind::Ttl => {
                let TtlRequest { ttl_ms } = frame.json()?;
                self.report(self.context.set_ttl(Some(ttl_ms)));
            }
            FrameKind::Secret => {
                self.received_secrets = true;
                self.secrets.add(frame.payload)?;
            }
            FrameKind::ExecPart | FrameKind::Exec => self.collect_exec(frame)?,
            FrameKind::Stdin => self.feed(&mut [IoSlice::new(frame.payload)])?,
            FrameKind::StdinEof => {
                if let Some(command) = &mut self.command {
                    command.input.finish();
                }
            }
            FrameKind::Signal => {
                let SignalRequest { number } = frame.json()?;
                if !(1..=64).contains(&number) {
                    return Err(ProtocolViolation::Malformed(frame.kind, "no such signal".into()));
                }
                if let Some(command) = &self.command {
                    command.signal(&self.context.reaper, number.into());
                }
            }
            FrameKind::WindowSize => {
                let size = frame.json()?;
                if let Some(command) = &self.command {
                    command.resize(size);
                }
            }
            FrameKind::Shutdown => {
                let ShutdownRequest { grace_ms } = frame.json()?;
                self.outbox.push(FrameKind::Done, self.tag, &[]);
                let grace = Duration::from_millis(grace_ms);
                self.shutdown = Some((Instant::now() + ANSWER_LIMIT, grace));
            }
            _ => return Err(ProtocolViolation::WrongSide(frame.kind)),
        }
        Ok(())
    }

    /// Passes input on to the command, which may have ended before it arrived.
    fn feed(&mut self, input: &mut [IoSlice<'_>]) -> Result<(), ProtocolViolation> {
        if self.command.as_mut().is_none_or(|command| command.input.feed(input)) {
            return Ok(());
        }
        Err(ProtocolViolation::Unexpected(FrameKind::Stdin))
    }

    /// Collects the parts of a request, and starts its command with the last one.
    fn collect_exec(&mut self, frame: &Frame<'_>) -> Result<(), ProtocolViolation> {
        if self.request.len() + frame.payload.len() > MAX_REQUEST {
            return Err(ProtocolViolation::Length(frame.kind, frame.payload.len() as u32));
        }
        self.request.extend(frame.payload);
        if frame.kind == FrameKind::Exec {
            let request = std::mem::take(&mut self.request);
            let whole = Frame { kind: FrameKind::Exec, payload: &request };
            let secrets = self.secrets.take();
            self.exec(&ExecRequest { secrets, ..whole.json()? });
        }
        Ok(())
    }

    fn exec(&mut self, request: &ExecRequest) {
        if self.command.is_some() {
            self.refuse(&failure(FailureKind::Busy, "this session already runs a command"));
            return;
        }
        match RunningCommand::start(request, self.context) {
            Ok(command) => {
                self.answer(FrameKind::Started, &ExecStarted { pid: command.pid() });
                self.command = Some(command);
            }
            Err(failure) => self.refuse(&failure),
        }
    }

    /// Updates the command, and sends the credit and the exit that follow from its state.
    fn advance(&mut self) {
        let is_blocked = !self.outbox.takes_data() || self.is_relaying();
        let Some(command) = &mut self.command else { return };
        command.update(self.context, is_blocked);
        if !self.outbox.takes_control() {
            return;
        }
        if let Some(bytes) = command.input.take_credit() {
            let credit = StdinCredit { bytes };
            self.answer(FrameKind::StdinCredit, &credit);
        }
        if self.outbox.takes_control()
            && let Some(exit) = self.command.as_ref().and_then(RunningCommand::exit)
        {
            self.answer(FrameKind::Exit, &exit);
            self.finished = self.command.take();
        }
    }

    /// Does what can wait until a command's exit was sent.
    fn clean_up(&mut self) {
        if self.finished.take().is_some()
            && let Some(cgroups) = self.context.cgroups()
        {
            cgroups.create_spare();
        }
    }

    fn is_relaying(&self) -> bool {
        self.relay.as_ref().is_some_and(|relay| !relay.is_empty())
    }

    fn wait(&self, stream: &HostStream) -> Vec<PollSource> {
        let mut events = PollFlags::empty();
        events.set(PollFlags::POLLIN, self.outbox.takes_control());
        events.set(PollFlags::POLLOUT, !self.outbox.is_empty() || self.is_relaying());
        let mut sources = vec![(PollSource::Stream, stream.as_fd(), events)];
        let input = self.command.as_ref().and_then(|command| command.input.wants_to_write());
        if let Some(input) = &input {
            sources.push((PollSource::Input, input.as_fd(), PollFlags::POLLOUT));
        }
        let mut limit = self.shutdown.map(|(deadline, _)| deadline);
        if let Some(command) = &self.command {
            if !command.has_ended() {
                sources.push((PollSource::Exit, command.child_exit.as_fd(), PollFlags::POLLIN));
            }
            if self.outbox.takes_data() && !self.is_relaying() {
                let output = |file| (PollSource::Output, File::as_fd(file), PollFlags::POLLIN);
                sources.extend(command.outputs().map(output));
            }
            limit = [limit, command.next_update()].into_iter().flatten().min();
        }
        poll::ready(&sources, limit).unwrap_or_default()
    }

    /// Reads until there is nothing left or no room. A port returns one page at a time, and waiting for
    /// each takes longer than reading it.
    fn receive(&mut self, stream: &HostStream, inbox: &mut FrameInbox) -> Result<(), SessionEnd> {
        if inbox.space().is_empty() {
            // Without room, nothing is read, but a client that has gone must be noticed.
            return if stream.is_gone() { Err(SessionEnd::ClientGone) } else { Ok(()) };
        }
        while !inbox.space().is_empty() {
            match stream.read(inbox.space()) {
                Ok(0) if stream.confirm_gone() => return Err(SessionEnd::ClientGone),
                Ok(0) => break,
                Ok(count) => inbox.filled(count),
                Err(error) if would_block(&error) => break,
                Err(_) => return Err(SessionEnd::ClientGone),
            }
        }
        Ok(())
    }

    fn flush(&mut self, stream: &HostStream) -> Result<(), SessionEnd> {
        if let Some(relay) = &mut self.relay {
            relay.flush(stream).map_err(|_| SessionEnd::ClientGone)?;
            if !relay.is_empty() {
                return Ok(());
            }
        }
        while !self.outbox.is_empty() {
            match stream.write(self.outbox.pending()) {
                Ok(count) => self.outbox.sent(count),
                Err(error) if would_block(&error) => break,
                Err(_) => return Err(SessionEnd::ClientGone),
            }
        }
        Ok(())
    }

    /// Answers a request that was carried out or failed.
    fn report(&mut self, result: anyhow::Result<()>) {
        match result {
            Ok(()) => self.outbox.push(FrameKind::Done, self.tag, &[]),
            Err(error) => self.refuse(&failure(FailureKind::Internal, format!("{error:#}"))),
        }
    }

    fn refuse(&mut self, failure: &AgentFailure) {
        self.answer(FrameKind::Error, failure);
    }

    fn answer(&mut self, kind: FrameKind, message: &impl Serialize) {
        match serde_json::to_vec(message) {
            Ok(json) => self.outbox.push(kind, self.tag, &json),
            Err(error) => console::print(&format!("cannot encode {kind:?}: {error}")),
        }
    }
}
