//! One session on a line: from the answer to a `Hello` until the client goes away or breaks the
//! protocol. One thread, one `poll`, buffers of fixed size.

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use serde::Serialize;

use super::transport::HostStream;
use crate::agent::console;
use crate::agent::job::RunningCommand;
use crate::agent::job::failure;
use crate::agent::vm::{AgentContext, shutdown};
use crate::protocol::{
    AgentFailure, ExecRequest, ExecStarted, FailureKind, Frame, FrameInbox, FrameKind, FrameOutbox,
    FrameSide, Hello, HelloAck, MAX_REQUEST, ProtocolViolation, ReceivedSecrets, SetupRequest,
    ShutdownRequest, SignalRequest, StdinCredit, TtlRequest, VERSION,
};
use crate::sys::nonblocking::would_block;
use crate::sys::poll::{self, PollFd, PollFlags};

/// How long an answer may take to leave before the VM ends whether it was heard or not.
const FAREWELL: Duration = Duration::from_millis(200);

/// Why a session is over.
#[derive(Debug, PartialEq, Eq)]
pub enum SessionEnd {
    /// The client went away.
    Lost,
    /// The line carries something else now: perhaps the next client's `Hello`, still in the inbox.
    Disturbed,
}

/// Serves one session. Its command does not outlive it ([`RunningCommand::abandon`]).
pub fn serve(
    hello: Hello,
    line: &HostStream,
    inbox: &mut FrameInbox,
    outbox: &mut FrameOutbox,
    world: &AgentContext,
) -> SessionEnd {
    outbox.clear();
    let mut session = Session {
        world,
        tag: hello.nonce,
        outbox,
        request: Vec::new(),
        secrets: ReceivedSecrets::default(),
        confided: false,
        job: None,
        reported: None,
        ending: None,
    };
    session.outbox.push_raw(&HelloAck { version: VERSION, nonce: hello.nonce }.encode());
    session.answer(FrameKind::AgentInfo, &world.info());
    let over = session.run(line, inbox);
    if session.confided {
        inbox.wipe();
    }
    if let Some(job) = session.job {
        job.abandon(&world.reaper);
    }
    over
}

struct Session<'a> {
    world: &'a AgentContext,
    tag: u64,
    outbox: &'a mut FrameOutbox,
    /// The parts of a request so far.
    request: Vec<u8>,
    /// What belongs to it and came before it.
    secrets: ReceivedSecrets,
    /// Whether the inbox still holds what nobody needs any more and nobody shall find.
    confided: bool,
    job: Option<RunningCommand>,
    /// The last one, until the host knows of its end and there is time to clear it away.
    reported: Option<RunningCommand>,
    /// When the VM was asked to end: by when the answer must have left, and the grace.
    ending: Option<(Instant, Duration)>,
}

/// What `poll` is asked about, in the order of the descriptors.
#[derive(Clone, Copy, PartialEq)]
enum Source {
    Line,
    Ending,
    Input,
    Output,
}

impl Session<'_> {
    fn run(&mut self, line: &HostStream, inbox: &mut FrameInbox) -> SessionEnd {
        loop {
            while self.outbox.takes_control() {
                let handled = match inbox.next_frame(FrameSide::Host, self.tag) {
                    Ok(Some(frame)) => self.handle(&frame),
                    Ok(None) => break,
                    Err(violation) => Err(violation),
                };
                if handled.is_err() {
                    return SessionEnd::Disturbed;
                }
            }
            if std::mem::take(&mut self.confided) {
                inbox.wipe();
            }
            self.advance();
            if self.flush(line).is_err() {
                return SessionEnd::Lost;
            }
            self.clear_away();
            if let Some((deadline, grace)) = self.ending
                && (self.outbox.is_empty() || Instant::now() >= deadline)
            {
                shutdown::end(self.world, grace);
            }
            let ready = self.wait(line);
            if ready.contains(&Source::Input)
                && let Some(job) = &mut self.job
            {
                job.input.write_waiting();
            }
            if ready.contains(&Source::Output)
                && let Some(job) = &mut self.job
            {
                job.read_outputs(self.outbox, self.tag);
            }
            if ready.contains(&Source::Line) && self.receive(line, inbox).is_err() {
                return SessionEnd::Lost;
            }
        }
    }

    fn handle(&mut self, frame: &Frame<'_>) -> Result<(), ProtocolViolation> {
        match frame.kind {
            FrameKind::Setup => {
                let setup: SetupRequest = frame.json()?;
                self.report(self.world.set_up(&setup));
            }
            FrameKind::Ttl => {
                let TtlRequest { ttl_ms } = frame.json()?;
                self.report(self.world.set_ttl(Some(ttl_ms)));
            }
            FrameKind::Secret => {
                self.confided = true;
                self.secrets.add(frame.payload)?;
            }
            FrameKind::ExecPart | FrameKind::Exec => {
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
            }
            // Input and signals may cross the end of the command on their way.
            FrameKind::Stdin => {
                if self.job.as_mut().is_some_and(|job| !job.input.feed(frame.payload)) {
                    return Err(ProtocolViolation::Unexpected(FrameKind::Stdin));
                }
            }
            FrameKind::StdinEof => {
                if let Some(job) = &mut self.job {
                    job.input.finish();
                }
            }
            FrameKind::Signal => {
                let SignalRequest { number } = frame.json()?;
                if !(1..=64).contains(&number) {
                    return Err(ProtocolViolation::Malformed(frame.kind, "no such signal".into()));
                }
                if let Some(job) = &self.job {
                    job.signal(&self.world.reaper, number.into());
                }
            }
            FrameKind::WindowSize => {
                let size = frame.json()?;
                if let Some(job) = &self.job {
                    job.resize(size);
                }
            }
            FrameKind::Shutdown => {
                let ShutdownRequest { grace_ms } = frame.json()?;
                self.outbox.push(FrameKind::Done, self.tag, &[]);
                let grace = Duration::from_millis(grace_ms);
                self.ending = Some((Instant::now() + FAREWELL, grace));
            }
            _ => return Err(ProtocolViolation::WrongSide(frame.kind)),
        }
        Ok(())
    }

    fn exec(&mut self, request: &ExecRequest) {
        if self.job.is_some() {
            self.refuse(&failure(FailureKind::Busy, "this session runs a command already"));
            return;
        }
        match RunningCommand::start(request, self.world) {
            Ok(job) => {
                self.answer(FrameKind::Started, &ExecStarted { pid: job.pid() });
                self.job = Some(job);
            }
            Err(failure) => self.refuse(&failure),
        }
    }

    /// Everything that follows from the command's state: its end, its deadline, credit, its exit.
    fn advance(&mut self) {
        let Some(job) = &mut self.job else { return };
        job.tick(&self.world.reaper, !self.outbox.takes_data());
        if !self.outbox.takes_control() {
            return;
        }
        if let Some(bytes) = job.input.take_credit() {
            let credit = StdinCredit { bytes };
            self.answer(FrameKind::StdinCredit, &credit);
        }
        if self.outbox.takes_control()
            && let Some(exit) = self.job.as_ref().and_then(RunningCommand::exit)
        {
            self.answer(FrameKind::Exit, &exit);
            self.reported = self.job.take();
        }
    }

    /// What can wait until a command's end was reported.
    fn clear_away(&mut self) {
        if self.reported.take().is_some()
            && let Some(cgroups) = self.world.cgroups()
        {
            cgroups.create_spare();
        }
    }

    fn wait(&self, line: &HostStream) -> Vec<Source> {
        let mut sources = Vec::with_capacity(5);
        let mut fds = Vec::with_capacity(5);
        let mut events = PollFlags::empty();
        if self.outbox.takes_control() {
            events |= PollFlags::POLLIN;
        }
        if !self.outbox.is_empty() {
            events |= PollFlags::POLLOUT;
        }
        sources.push(Source::Line);
        fds.push(PollFd::new(line.as_fd(), events));
        let input = self.job.as_ref().and_then(|job| job.input.wants_to_write());
        if let Some(input) = &input {
            sources.push(Source::Input);
            fds.push(PollFd::new(input.as_fd(), PollFlags::POLLOUT));
        }
        let mut limit = self.ending.map(|(deadline, _)| deadline);
        if let Some(job) = &self.job {
            if !job.has_ended() {
                sources.push(Source::Ending);
                fds.push(PollFd::new(job.ending.as_fd(), PollFlags::POLLIN));
            }
            if self.outbox.takes_data() {
                for (_, output) in job.open_outputs() {
                    sources.push(Source::Output);
                    fds.push(PollFd::new(output.as_fd(), PollFlags::POLLIN));
                }
            }
            limit = [limit, job.next_tick()].into_iter().flatten().min();
        }
        if poll::wait(&mut fds, limit).is_err() {
            return Vec::new();
        }
        let ready = fds.iter().zip(sources).filter(|(fd, _)| fd.any() == Some(true));
        ready.map(|(_, source)| source).collect()
    }

    /// Reads until nothing is left or there is room for no more: a port hands out one page at a
    /// time, and waiting for each of them would cost more than reading it.
    fn receive(&mut self, line: &HostStream, inbox: &mut FrameInbox) -> Result<(), ()> {
        if inbox.space().is_empty() {
            // Nothing can be read now, but a client that is gone must be noticed all the same.
            return if line.gone() { Err(()) } else { Ok(()) };
        }
        while !inbox.space().is_empty() {
            match line.read(inbox.space()) {
                Ok(0) if line.lost() => return Err(()),
                Ok(0) => break,
                Ok(count) => inbox.filled(count),
                Err(error) if would_block(&error) => break,
                Err(_) => return Err(()),
            }
        }
        Ok(())
    }

    fn flush(&mut self, line: &HostStream) -> Result<(), ()> {
        while !self.outbox.is_empty() {
            match line.write(self.outbox.pending()) {
                Ok(count) => self.outbox.sent(count),
                Err(error) if would_block(&error) => break,
                Err(_) => return Err(()),
            }
        }
        Ok(())
    }

    /// Answers a request that is done or has failed at once.
    fn report(&mut self, result: Result<(), String>) {
        match result {
            Ok(()) => self.outbox.push(FrameKind::Done, self.tag, &[]),
            Err(message) => self.refuse(&failure(FailureKind::Internal, message)),
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
