//! A running command: one loop that moves bytes both ways, and everything that can end it.
//!
//! ```text
//! Asked ──Started──▶ Running ──Exit──▶ outcome
//!   │                  │ ├─ nobody reads the output ─▶ Closing ──Exit or 0.5 s──▶ OutputClosed
//!   │                  │ ├─ the input is unreadable ─▶ Closing ──Exit or 5 s──▶ error
//!   └─Error─▶ outcome  │ ├─ timeout and 2 s more ─▶ TimedOut
//!                      │ └─ at a terminal: a signal, or nobody there any more ─▶ HungUp
//!                      └─ end of line, broken protocol, second signal ─▶ error
//! ```

use std::io::ErrorKind;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::errno::Errno;
use nix::sys::signal::Signal;

use super::agent_link::broken;
use super::escape_keys::KeyAction;
use super::outcome::{CapturedOutput, CommandExit};
use super::output::OutputDrain;
use super::session::AgentSession;
use super::stdin::InputFeed;
use super::tty::AttachedTerminal;
use crate::host::signals::{PendingSignals, SignalInterrupt};
use crate::model::{self, Refusal};
use crate::protocol::{
    self, AgentFailure, ExecRequest, ExecStarted, FailureKind, Frame, FrameKind, ProcessEnd,
    ProtocolViolation, StdinCredit,
};
use crate::sys::poll::{self, PollFd, PollFlags};

/// How long an agent may take to answer `ExecRequest` with `ExecStarted` or `Error`.
pub(super) const START_LIMIT: Duration = Duration::from_secs(30);

/// What the agent gets beyond the command's own timeout to enforce it.
const BACKSTOP: Duration = Duration::from_secs(2);

/// What a command gets to end after nobody reads its output any more.
const CLOSING: Duration = Duration::from_millis(500);

/// What it gets to end, and to clear away what it began, after its input could not be read.
const CUT_OFF: Duration = Duration::from_secs(5);

/// A command that was asked for, with its streams.
pub(super) struct StreamPump<'a> {
    request: &'a ExecRequest,
    feed: InputFeed,
    /// Where the command has a terminal.
    seat: Option<AttachedTerminal>,
    stdout: OutputDrain,
    stderr: OutputDrain,
    started: bool,
    /// Set when nobody reads the output any more, or all of the input: when to stop waiting for the
    /// command.
    closing: Option<Instant>,
    /// Why the input could not be read.
    unread: Option<std::io::Error>,
    /// Whether a signal was passed on.
    signalled: bool,
    begun: Instant,
    /// How long the host's own readers kept output waiting; not the agent's fault.
    blocked: Duration,
}

/// What `poll` is asked about.
#[derive(Clone, Copy, PartialEq)]
enum Source {
    Signals,
    Terminal,
    Link,
    Stdin,
    Output,
}

impl<'a> StreamPump<'a> {
    /// `outputs` are standard output and error.
    pub fn new(
        request: &'a ExecRequest,
        feed: InputFeed,
        seat: Option<AttachedTerminal>,
        outputs: [OutputDrain; 2],
    ) -> StreamPump<'a> {
        let [stdout, stderr] = outputs;
        StreamPump {
            request,
            feed,
            seat,
            stdout,
            stderr,
            started: false,
            closing: None,
            unread: None,
            signalled: false,
            begun: Instant::now(),
            blocked: Duration::ZERO,
        }
    }

    /// Moves bytes until the command ends; how it did, and how long it took.
    pub fn run(
        &mut self,
        session: &mut AgentSession,
        signals: &mut PendingSignals,
    ) -> Result<(CommandExit, Duration)> {
        let end = self.pump(session, signals);
        self.leave_the_line(&end);
        match (end, self.unread.take()) {
            (Ok(_), Some(error)) => Err(error).context("cannot read standard input"),
            (end, _) => end,
        }
    }

    /// What was kept of the outputs.
    pub fn captured(self) -> [CapturedOutput; 2] {
        [self.stdout.captured(), self.stderr.captured()]
    }

    fn pump(
        &mut self,
        session: &mut AgentSession,
        signals: &mut PendingSignals,
    ) -> Result<(CommandExit, Duration)> {
        loop {
            if let Some(end) = self.take_frames(session)? {
                return Ok(end);
            }
            self.feed.pass_on(&mut session.link);
            session.link.flush()?;
            if let Some(end) = self.overdue()? {
                return Ok(end);
            }
            let ready = self.wait(session, signals)?;
            if ready.contains(&Source::Signals)
                && let Some(end) = self.pass_on(session, signals)?
            {
                return Ok(end);
            }
            if let Some(seat) = &mut self.seat {
                if ready.contains(&Source::Terminal) {
                    seat.attend()?;
                }
                // Before keys that were typed at the new size.
                seat.tell(&mut session.link)?;
            }
            if ready.contains(&Source::Output) {
                let drained = self.stdout.drain().and_then(|()| self.stderr.drain());
                self.settle(session, drained)?;
            }
            if ready.contains(&Source::Stdin) {
                match self.feed.pump(&mut session.link) {
                    Ok(None) => {}
                    Ok(Some(KeyAction::HangUp)) => return Ok(self.hang_up(Signal::SIGHUP)),
                    Ok(Some(KeyAction::Suspend)) => {
                        if let Some(seat) = &mut self.seat {
                            seat.suspend()?;
                        }
                    }
                    Err(error) => self.cut_off(session, error)?,
                }
            }
            if ready.contains(&Source::Link) {
                session.link.flush()?;
                session.link.receive()?;
            }
        }
    }

    /// Deals with all complete frames, as long as their bytes have somewhere to go.
    fn take_frames(
        &mut self,
        session: &mut AgentSession,
    ) -> Result<Option<(CommandExit, Duration)>> {
        while self.takes_output() {
            let frame = session.link.next().map_err(|violation| broken(&violation))?;
            let Some(frame) = frame else { break };
            match self.handle(&frame).map_err(|violation| broken(&violation))? {
                Step::Go => {}
                Step::Begin => {
                    if let Some(seat) = &mut self.seat {
                        seat.begin()?;
                    }
                }
                Step::Wrote(result) => self.settle(session, result)?,
                Step::End(exit, duration) => {
                    if !session.link.inbox.is_empty() {
                        let message = "the agent broke the protocol: it went on after the end";
                        bail!(Refusal::new(model::RefusalKind::Agent, message));
                    }
                    session.idle = true;
                    return Ok(Some((exit, duration)));
                }
                Step::Fail(failure) => return Err(refused(&failure)),
            }
        }
        Ok(None)
    }

    fn handle(&mut self, frame: &Frame<'_>) -> Result<Step, ProtocolViolation> {
        match (frame.kind, self.started) {
            (FrameKind::Started, false) => {
                frame.json::<ExecStarted>()?;
                self.started = true;
                Ok(Step::Begin)
            }
            (FrameKind::Error, false) => {
                let failure: AgentFailure = frame.json()?;
                Ok(match failure.kind {
                    FailureKind::NotFound
                    | FailureKind::NotExecutable
                    | FailureKind::NoSuchUser
                    | FailureKind::NoSuchDirectory => {
                        Step::End(CommandExit::NotStarted(failure), self.begun.elapsed())
                    }
                    _ => Step::Fail(failure),
                })
            }
            (FrameKind::Stdout | FrameKind::Stderr, true) if self.closing.is_some() => Ok(Step::Go),
            (FrameKind::Stdout, true) => Ok(Step::Wrote(self.stdout.take(frame.payload))),
            (FrameKind::Stderr, true) => Ok(Step::Wrote(self.stderr.take(frame.payload))),
            (FrameKind::StdinCredit, true) if self.request.stdin => {
                let StdinCredit { bytes } = frame.json()?;
                self.feed.allow(bytes)?;
                Ok(Step::Go)
            }
            (FrameKind::Exit, true) => {
                let exit: protocol::ExecExit = frame.json()?;
                if exit.timed_out && self.request.timeout_ms.is_none() {
                    return Err(ProtocolViolation::Malformed(
                        frame.kind,
                        "no timeout was set".into(),
                    ));
                }
                if let ProcessEnd::Signal(0 | 65..) = exit.end {
                    return Err(ProtocolViolation::Malformed(frame.kind, "no such signal".into()));
                }
                let end = match (self.closing, exit.timed_out) {
                    (Some(_), _) => CommandExit::OutputClosed,
                    (None, true) => CommandExit::TimedOut,
                    (None, false) => exit.end.into(),
                };
                Ok(Step::End(end, Duration::from_millis(exit.duration_ms)))
            }
            (kind, _) => Err(ProtocolViolation::Unexpected(kind)),
        }
    }

    /// What a write to an output means: nobody reading it any more ends the command, as a local one
    /// would die of SIGPIPE.
    fn settle(&mut self, session: &mut AgentSession, result: std::io::Result<()>) -> Result<()> {
        match result {
            Ok(()) => Ok(()),
            Err(error) if self.has_no_reader(&error) => {
                if self.closing.is_none() {
                    self.closing = Some(Instant::now() + CLOSING);
                    send_signal(session, Signal::SIGPIPE)?;
                }
                Ok(())
            }
            Err(error) => Err(error).context("write the command's output"),
        }
    }

    /// Ends a command that will not get all of its input.
    fn cut_off(&mut self, session: &mut AgentSession, error: std::io::Error) -> Result<()> {
        self.unread = Some(error);
        self.closing.get_or_insert(Instant::now() + CUT_OFF);
        send_signal(session, Signal::SIGTERM)
    }

    /// Whether this error of an output means that nobody is there to read it.
    fn has_no_reader(&self, error: &std::io::Error) -> bool {
        let hung_up = self.seat.is_some() && error.raw_os_error() == Some(Errno::EIO as i32);
        hung_up || error.kind() == ErrorKind::BrokenPipe
    }

    fn pass_on(
        &mut self,
        session: &mut AgentSession,
        signals: &mut PendingSignals,
    ) -> Result<Option<(CommandExit, Duration)>> {
        while let Some(signal) = signals.take() {
            if self.seat.is_some() {
                return Ok(Some(self.hang_up(signal)));
            }
            if self.signalled && matches!(signal, Signal::SIGINT | Signal::SIGTERM) {
                bail!(SignalInterrupt(signal));
            }
            self.signalled = true;
            send_signal(session, signal)?;
        }
        Ok(None)
    }

    /// Leaves the command. The end of the session is what tells the agent.
    fn hang_up(&self, signal: Signal) -> (CommandExit, Duration) {
        (CommandExit::HungUp(signal as u8), self.begun.elapsed())
    }

    /// Where a command's terminal was taken away from it, the cursor is anywhere, and what comes next is
    /// a message of ours.
    fn leave_the_line(&mut self, end: &Result<(CommandExit, Duration)>) {
        let by_itself = matches!(end, Ok((CommandExit::Exited(_) | CommandExit::NotStarted(_), _)));
        if self.seat.is_some() && self.started && !by_itself && self.stdout.ready() {
            let _ = self.stdout.take(b"\r\n");
        }
    }

    fn takes_output(&self) -> bool {
        self.closing.is_some() || (self.stdout.ready() && self.stderr.ready())
    }

    /// By when something must have happened.
    fn limit(&self) -> Option<Instant> {
        if self.closing.is_some() {
            return self.closing;
        }
        if !self.started {
            return Some(self.begun + START_LIMIT + self.blocked);
        }
        let timeout = Duration::from_millis(self.request.timeout_ms?);
        // A timeout beyond what the clock can express is none.
        self.begun.checked_add(timeout)?.checked_add(BACKSTOP + self.blocked)
    }

    fn overdue(&self) -> Result<Option<(CommandExit, Duration)>> {
        if !self.takes_output() || self.limit().is_none_or(|limit| Instant::now() < limit) {
            return Ok(None);
        }
        let exit = match (self.closing, self.started) {
            (Some(_), _) => CommandExit::OutputClosed,
            (None, true) => CommandExit::TimedOut,
            (None, false) => {
                let message = "the agent did not say in time whether the command runs";
                bail!(Refusal::new(model::RefusalKind::Agent, message));
            }
        };
        Ok(Some((exit, self.begun.elapsed())))
    }

    fn wait(&mut self, session: &AgentSession, signals: &PendingSignals) -> Result<Vec<Source>> {
        let link = &session.link;
        let mut sources = vec![Source::Signals];
        let mut fds = vec![PollFd::new(signals.as_fd(), PollFlags::POLLIN)];
        let raw = self.seat.as_ref().and_then(AttachedTerminal::raw);
        let mut ask = |source, fd, events| {
            sources.push(source);
            fds.push(PollFd::new(fd, events));
        };
        if let Some(raw) = raw {
            ask(Source::Terminal, raw.as_fd(), PollFlags::POLLIN);
        }
        let held = !self.takes_output();
        let mut events = PollFlags::empty();
        events.set(PollFlags::POLLIN, !held);
        events.set(PollFlags::POLLOUT, !link.outbox.is_empty());
        // With nothing to ask for, poll would still report an agent that hung up, over and over.
        if !events.is_empty() {
            ask(Source::Link, link.as_fd(), events);
        }
        // What is typed before the terminal is raw is lines, with an end that is none of the command's.
        let types = self.seat.is_none() || raw.is_some();
        if let Some(stdin) = self.feed.waits_for(link).filter(|_| types) {
            ask(Source::Stdin, stdin, PollFlags::POLLIN);
        }
        for drain in [&self.stdout, &self.stderr] {
            if let Some(output) = drain.waits_for().filter(|_| self.closing.is_none()) {
                ask(Source::Output, output, PollFlags::POLLOUT);
            }
        }
        let asked = Instant::now();
        let limit = if held { None } else { self.limit() };
        let polled = poll::wait(&mut fds, limit).context("poll");
        let ready = fds.iter().zip(sources).filter(|(fd, _)| fd.any() == Some(true));
        let ready = ready.map(|(_, source)| source).collect();
        if held {
            self.blocked += asked.elapsed();
        }
        polled.map(|_| ready)
    }
}

/// What a frame leads to.
enum Step {
    Go,
    /// The command runs.
    Begin,
    Wrote(std::io::Result<()>),
    End(CommandExit, Duration),
    Fail(AgentFailure),
}

fn send_signal(session: &mut AgentSession, signal: Signal) -> Result<()> {
    let number = protocol::SignalRequest { number: signal as u8 };
    let json = serde_json::to_vec(&number).context("encode a signal")?;
    let link = &mut session.link;
    // A line that has not even room for this is one that nobody reads at the other end.
    if link.outbox.takes_control() {
        link.outbox.push(FrameKind::Signal, link.tag, &json);
    }
    link.flush()
}

fn refused(failure: &AgentFailure) -> anyhow::Error {
    let kind = match failure.kind {
        FailureKind::Busy => model::RefusalKind::Busy,
        _ => model::RefusalKind::Agent,
    };
    Refusal::new(kind, format!("the agent cannot run the command: {}", failure.message)).into()
}
