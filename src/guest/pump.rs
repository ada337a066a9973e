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
use nix::poll::{PollFd, PollFlags, poll};
use nix::sys::signal::Signal;

use super::feed::Feed;
use super::keys::Wish;
use super::link::broken;
use super::outcome::{Captured, Exit};
use super::seat::Seat;
use super::session::Session;
use super::sink::Drain;
use crate::host::signals::{Interrupted, Signals};
use crate::host::wait::timeout;
use crate::model::{self, Refusal};
use crate::protocol::{
    self, Credit, End, Exec, Failure, FailureKind, Frame, Kind, Started, Violation,
};

/// How long an agent may take to answer `Exec` with `Started` or `Error`.
pub(super) const START_LIMIT: Duration = Duration::from_secs(30);

/// What the agent gets beyond the command's own timeout to enforce it.
const BACKSTOP: Duration = Duration::from_secs(2);

/// What a command gets to end after nobody reads its output any more.
const CLOSING: Duration = Duration::from_millis(500);

/// What it gets to end, and to clear away what it began, after its input could not be read.
const CUT_OFF: Duration = Duration::from_secs(5);

/// A command that was asked for, with its streams.
pub(super) struct Pump<'a> {
    request: &'a Exec,
    feed: Feed,
    /// Where the command has a terminal.
    seat: Option<Seat>,
    stdout: Drain,
    stderr: Drain,
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

impl<'a> Pump<'a> {
    /// `outputs` are standard output and error.
    pub fn new(request: &'a Exec, feed: Feed, seat: Option<Seat>, outputs: [Drain; 2]) -> Pump<'a> {
        let [stdout, stderr] = outputs;
        Pump {
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
        session: &mut Session,
        signals: &mut Signals,
    ) -> Result<(Exit, Duration)> {
        let end = self.pump(session, signals);
        self.leave_the_line(&end);
        match (end, self.unread.take()) {
            (Ok(_), Some(error)) => Err(error).context("cannot read standard input"),
            (end, _) => end,
        }
    }

    /// What was kept of the outputs.
    pub fn captured(self) -> [Captured; 2] {
        [self.stdout.captured(), self.stderr.captured()]
    }

    fn pump(&mut self, session: &mut Session, signals: &mut Signals) -> Result<(Exit, Duration)> {
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
                    Ok(Some(Wish::HangUp)) => return Ok(self.hang_up(Signal::SIGHUP)),
                    Ok(Some(Wish::Suspend)) => {
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
    fn take_frames(&mut self, session: &mut Session) -> Result<Option<(Exit, Duration)>> {
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
                        bail!(Refusal::new(model::Kind::Agent, message));
                    }
                    session.idle = true;
                    return Ok(Some((exit, duration)));
                }
                Step::Fail(failure) => return Err(refused(&failure)),
            }
        }
        Ok(None)
    }

    fn handle(&mut self, frame: &Frame<'_>) -> Result<Step, Violation> {
        match (frame.kind, self.started) {
            (Kind::Started, false) => {
                frame.json::<Started>()?;
                self.started = true;
                Ok(Step::Begin)
            }
            (Kind::Error, false) => {
                let failure: Failure = frame.json()?;
                Ok(match failure.kind {
                    FailureKind::NotFound
                    | FailureKind::NotExecutable
                    | FailureKind::NoSuchUser
                    | FailureKind::NoSuchDirectory => {
                        Step::End(Exit::NotStarted(failure), self.begun.elapsed())
                    }
                    _ => Step::Fail(failure),
                })
            }
            (Kind::Stdout | Kind::Stderr, true) if self.closing.is_some() => Ok(Step::Go),
            (Kind::Stdout, true) => Ok(Step::Wrote(self.stdout.take(frame.payload))),
            (Kind::Stderr, true) => Ok(Step::Wrote(self.stderr.take(frame.payload))),
            (Kind::StdinCredit, true) if self.request.stdin => {
                let Credit { bytes } = frame.json()?;
                self.feed.allow(bytes)?;
                Ok(Step::Go)
            }
            (Kind::Exit, true) => {
                let exit: protocol::Exit = frame.json()?;
                if exit.timed_out && self.request.timeout_ms.is_none() {
                    return Err(Violation::Malformed(frame.kind, "no timeout was set".into()));
                }
                if let End::Signal(0 | 65..) = exit.end {
                    return Err(Violation::Malformed(frame.kind, "no such signal".into()));
                }
                let end = match (self.closing, exit.timed_out) {
                    (Some(_), _) => Exit::OutputClosed,
                    (None, true) => Exit::TimedOut,
                    (None, false) => exit.end.into(),
                };
                Ok(Step::End(end, Duration::from_millis(exit.duration_ms)))
            }
            (kind, _) => Err(Violation::Unexpected(kind)),
        }
    }

    /// What a write to an output means: nobody reading it any more ends the command, as a local one
    /// would die of SIGPIPE.
    fn settle(&mut self, session: &mut Session, result: std::io::Result<()>) -> Result<()> {
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
    fn cut_off(&mut self, session: &mut Session, error: std::io::Error) -> Result<()> {
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
        session: &mut Session,
        signals: &mut Signals,
    ) -> Result<Option<(Exit, Duration)>> {
        while let Some(signal) = signals.take() {
            if self.seat.is_some() {
                return Ok(Some(self.hang_up(signal)));
            }
            if self.signalled && matches!(signal, Signal::SIGINT | Signal::SIGTERM) {
                bail!(Interrupted(signal));
            }
            self.signalled = true;
            send_signal(session, signal)?;
        }
        Ok(None)
    }

    /// Leaves the command. The end of the session is what tells the agent.
    fn hang_up(&self, signal: Signal) -> (Exit, Duration) {
        (Exit::HungUp(signal as u8), self.begun.elapsed())
    }

    /// Where a command's terminal was taken away from it, the cursor is anywhere, and what comes next is
    /// a message of ours.
    fn leave_the_line(&mut self, end: &Result<(Exit, Duration)>) {
        let by_itself = matches!(end, Ok((Exit::Exited(_) | Exit::NotStarted(_), _)));
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

    fn overdue(&self) -> Result<Option<(Exit, Duration)>> {
        if !self.takes_output() || self.limit().is_none_or(|limit| Instant::now() < limit) {
            return Ok(None);
        }
        let exit = match (self.closing, self.started) {
            (Some(_), _) => Exit::OutputClosed,
            (None, true) => Exit::TimedOut,
            (None, false) => {
                let message = "the agent did not say in time whether the command runs";
                bail!(Refusal::new(model::Kind::Agent, message));
            }
        };
        Ok(Some((exit, self.begun.elapsed())))
    }

    fn wait(&mut self, session: &Session, signals: &Signals) -> Result<Vec<Source>> {
        let link = &session.link;
        let mut sources = vec![Source::Signals];
        let mut fds = vec![PollFd::new(signals.as_fd(), PollFlags::POLLIN)];
        let raw = self.seat.as_ref().and_then(Seat::raw);
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
        let polled = poll(&mut fds, timeout(limit));
        let ready = fds.iter().zip(sources).filter(|(fd, _)| fd.any() == Some(true));
        let ready = ready.map(|(_, source)| source).collect();
        if held {
            self.blocked += asked.elapsed();
        }
        match polled {
            Ok(_) => Ok(ready),
            Err(Errno::EINTR) => Ok(Vec::new()),
            Err(errno) => Err(errno).context("poll"),
        }
    }
}

/// What a frame leads to.
enum Step {
    Go,
    /// The command runs.
    Begin,
    Wrote(std::io::Result<()>),
    End(Exit, Duration),
    Fail(Failure),
}

fn send_signal(session: &mut Session, signal: Signal) -> Result<()> {
    let number = protocol::Signal { number: signal as u8 };
    let json = serde_json::to_vec(&number).context("encode a signal")?;
    let link = &mut session.link;
    // A line that has not even room for this is one that nobody reads at the other end.
    if link.outbox.takes_control() {
        link.outbox.push(Kind::Signal, link.tag, &json);
    }
    link.flush()
}

fn refused(failure: &Failure) -> anyhow::Error {
    let kind = match failure.kind {
        FailureKind::Busy => model::Kind::Busy,
        _ => model::Kind::Agent,
    };
    Refusal::new(kind, format!("the agent cannot run the command: {}", failure.message)).into()
}
