//! The loop that runs while a command does: it moves bytes both ways until something ends the command.
//!
//! ```text
//! requested ────Started────▶ running ────Exit────▶ outcome
//!     │                        │ ├─ an output has no reader ─▶ closing ──Exit or 0.5 s──▶ OutputClosed
//!     │                        │ ├─ the input cannot be read ─▶ closing ──Exit or 5 s──▶ error
//!     └─Error─▶ outcome        │ ├─ timeout and 2 s more ─▶ TimedOut
//!                              │ ├─ the VM's expiry and 2 s more ─▶ VmExpired
//!                              │ └─ at a terminal: a signal, a hang-up or `~.` ─▶ HungUp
//!                              └─ connection lost, protocol violated, second signal ─▶ error
//! ```

use std::io::{self, ErrorKind};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::errno::Errno;
use nix::sys::signal::Signal;

use super::agent_link::broken;
use super::escape_keys::{self, KeyAction};
use super::exec_deadline::{ExecDeadline, ExecLimit, INPUT_GRACE, LOOK_INTERVAL, OUTPUT_GRACE};
use super::notices::SessionNotices;
use super::outcome::{CapturedOutput, CommandExit, refused};
use super::output::OutputDrain;
use super::session::AgentSession;
use super::stdin::InputFeed;
use super::tty::AttachedTerminal;
use crate::host::signals::{PendingSignals, SignalInterrupt, SignalNumber};
use crate::model::{Refusal, RefusalKind};
use crate::protocol::{
    AgentFailure, ExecExit, ExecRequest, ExecStarted, FailureKind, Frame, FrameKind, ProcessEnd,
    ProtocolViolation, StdinCredit,
};
use crate::sys::poll::{self, PollFlags};
use crate::sys::signals::STOPPING;

/// A requested command and its streams.
pub(super) struct StreamPump<'a> {
    request: &'a ExecRequest,
    stdin: InputFeed,
    terminal: Option<AttachedTerminal>,
    stdout: OutputDrain,
    stderr: OutputDrain,
    deadline: ExecDeadline,
    /// Why the input could not be read.
    input_error: Option<io::Error>,
    /// The last signal that was passed on to end the command.
    signalled: Option<SignalNumber>,
    /// Whether the VM was ending when the command did, by its agent.
    pub vm_ending: bool,
    pub notices: SessionNotices,
}

/// What the loop waits for.
#[derive(Clone, Copy, PartialEq)]
enum PumpSource {
    Signals,
    Terminal,
    Link,
    Stdin,
    Output,
    News,
}

impl<'a> StreamPump<'a> {
    /// `outputs` are standard output and error.
    pub fn new(
        request: &'a ExecRequest,
        expiry: Option<Instant>,
        stdin: InputFeed,
        terminal: Option<AttachedTerminal>,
        outputs: [OutputDrain; 2],
    ) -> StreamPump<'a> {
        let [stdout, stderr] = outputs;
        StreamPump {
            request,
            stdin,
            terminal,
            stdout,
            stderr,
            deadline: ExecDeadline::of(request, expiry),
            input_error: None,
            signalled: None,
            vm_ending: false,
            notices: SessionNotices::default(),
        }
    }

    /// Moves bytes until the command ends. Returns how it ended, and how long it took.
    pub fn run(
        &mut self,
        session: &mut AgentSession,
        signals: &mut PendingSignals,
    ) -> Result<(CommandExit, Duration)> {
        let end = self.pump(session, signals);
        self.end_line(&end);
        match (end, self.input_error.take()) {
            (Ok(_), Some(error)) => Err(error).context("cannot read standard input"),
            (end, _) => end,
        }
    }

    /// How long the command has taken so far.
    pub fn elapsed(&self) -> Duration {
        self.deadline.elapsed()
    }

    /// The captured outputs.
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
            self.stdin.send_held(&mut session.link);
            session.link.flush()?;
            if let Some(end) = self.overdue(session)? {
                return Ok(end);
            }
            if let Some(signal) = self.signalled.filter(|_| session.is_waiting()) {
                bail!(SignalInterrupt(signal));
            }
            self.warn(session);
            let ready = self.wait(session, signals)?;
            if ready.contains(&PumpSource::Signals)
                && let Some(end) = self.pass_on_signals(session, signals)?
            {
                return Ok(end);
            }
            if let Some(terminal) = &mut self.terminal {
                if ready.contains(&PumpSource::Terminal) {
                    terminal.handle_events()?;
                }
                // Before keys that were typed at the new size.
                terminal.report_size(&mut session.link)?;
            }
            if ready.contains(&PumpSource::News) {
                let outlook = session.outlook.as_deref();
                let terminal = self.terminal.as_ref();
                let news = outlook.map(|outlook| self.notices.news(outlook, terminal));
                self.say(news.unwrap_or_default().as_bytes());
            }
            if ready.contains(&PumpSource::Output) {
                let drained = self.stdout.drain().and_then(|()| self.stderr.drain());
                self.check_output(session, drained)?;
            }
            if ready.contains(&PumpSource::Stdin) {
                match self.stdin.pump(&mut session.link) {
                    Ok(None) => {}
                    Ok(Some(KeyAction::HangUp)) => return Ok(self.hang_up(Signal::SIGHUP.into())),
                    Ok(Some(KeyAction::Help)) => self.say(escape_keys::HELP),
                    Ok(Some(KeyAction::Suspend)) => {
                        if let Some(terminal) = &mut self.terminal {
                            terminal.suspend()?;
                        }
                    }
                    Err(error) => {
                        self.input_error = Some(error);
                        self.deadline.close(INPUT_GRACE);
                        session.signal(Signal::SIGTERM.into())?;
                    }
                }
            }
            if ready.contains(&PumpSource::Link) {
                session.link.flush()?;
                session.link.receive()?;
            }
        }
    }

    /// Handles all complete frames, as long as the outputs take their bytes.
    fn take_frames(
        &mut self,
        session: &mut AgentSession,
    ) -> Result<Option<(CommandExit, Duration)>> {
        while self.takes_output() {
            let frame = session.link.next().map_err(|violation| broken(&violation))?;
            let Some(frame) = frame else { break };
            match self.handle(&frame).map_err(|violation| broken(&violation))? {
                FrameEffect::None => {}
                FrameEffect::Started => {
                    if let Some(terminal) = &mut self.terminal {
                        terminal.begin()?;
                    }
                }
                FrameEffect::Wrote(result) => self.check_output(session, result)?,
                FrameEffect::End(exit, duration) => {
                    if !session.link.inbox.is_empty() {
                        let message = "the agent broke the protocol: it sent more after the end";
                        bail!(Refusal::new(RefusalKind::Agent, message));
                    }
                    session.idle = true;
                    return Ok(Some((exit, duration)));
                }
                FrameEffect::Fail(failure) => return Err(refused(&failure)),
            }
        }
        Ok(None)
    }

    fn handle(&mut self, frame: &Frame<'_>) -> Result<FrameEffect, ProtocolViolation> {
        match (frame.kind, self.deadline.started) {
            (FrameKind::Started, false) => {
                frame.json::<ExecStarted>()?;
                self.deadline.started = true;
                Ok(FrameEffect::Started)
            }
            (FrameKind::Error, false) => {
                let failure: AgentFailure = frame.json()?;
                Ok(match failure.kind {
                    FailureKind::NotFound
                    | FailureKind::NotExecutable
                    | FailureKind::NoSuchUser
                    | FailureKind::NoSuchDirectory => {
                        FrameEffect::End(CommandExit::NotStarted(failure), self.deadline.elapsed())
                    }
                    _ => FrameEffect::Fail(failure),
                })
            }
            (FrameKind::Stdout | FrameKind::Stderr, true) if self.deadline.is_closing() => {
                Ok(FrameEffect::None)
            }
            (FrameKind::Stdout, true) => Ok(FrameEffect::Wrote(self.stdout.take(frame.payload))),
            (FrameKind::Stderr, true) => Ok(FrameEffect::Wrote(self.stderr.take(frame.payload))),
            (FrameKind::StdinCredit, true) if self.request.stdin => {
                let StdinCredit { bytes } = frame.json()?;
                self.stdin.add_credit(bytes)?;
                Ok(FrameEffect::None)
            }
            (FrameKind::Exit, true) => {
                let exit: ExecExit = frame.json()?;
                let malformed = |why: &str| ProtocolViolation::Malformed(frame.kind, why.into());
                if exit.timed_out && self.request.timeout_ms.is_none() {
                    return Err(malformed("no timeout was set"));
                }
                if let ProcessEnd::Signal(0 | 65..) = exit.end {
                    return Err(malformed("no such signal"));
                }
                self.vm_ending = exit.vm_ending;
                let end = if self.deadline.is_closing() {
                    CommandExit::OutputClosed
                } else if exit.timed_out {
                    CommandExit::TimedOut
                } else {
                    exit.end.into()
                };
                Ok(FrameEffect::End(end, Duration::from_millis(exit.duration_ms)))
            }
            (kind, _) => Err(ProtocolViolation::Unexpected(kind)),
        }
    }

    /// Checks a write to an output. If its reader is gone, the command ends by SIGPIPE, as a local one would.
    fn check_output(&mut self, session: &mut AgentSession, result: io::Result<()>) -> Result<()> {
        match result {
            Err(error) if self.lost_reader(&error) => {
                if self.deadline.close(OUTPUT_GRACE) {
                    session.signal(Signal::SIGPIPE.into())?;
                }
                Ok(())
            }
            result => result.context("write the command's output"),
        }
    }

    fn lost_reader(&self, error: &io::Error) -> bool {
        let hung_up = self.terminal.is_some() && error.raw_os_error() == Some(Errno::EIO as i32);
        hung_up || error.kind() == ErrorKind::BrokenPipe
    }

    fn pass_on_signals(
        &mut self,
        session: &mut AgentSession,
        signals: &mut PendingSignals,
    ) -> Result<Option<(CommandExit, Duration)>> {
        while let Some(signal) = signals.take() {
            if self.terminal.is_some() {
                return Ok(Some(self.hang_up(signal)));
            }
            let asks_to_stop = STOPPING.iter().any(|stopping| signal == *stopping);
            // A guest that is paused passes nothing on.
            let asks_again = (self.signalled.is_some() || session.is_waiting()) && asks_to_stop;
            if signal.is_own_limit()
                || asks_again && (signal == Signal::SIGINT || signal == Signal::SIGTERM)
            {
                bail!(SignalInterrupt(signal));
            }
            self.signalled = asks_to_stop.then_some(signal).or(self.signalled);
            session.signal(signal)?;
        }
        Ok(None)
    }

    /// Abandons the command. The agent notices when the session ends.
    fn hang_up(&self, signal: SignalNumber) -> (CommandExit, Duration) {
        (CommandExit::HungUp(signal.number()), self.deadline.elapsed())
    }

    /// Starts a new line for mayfly's next message, if the command was cut off at a terminal.
    fn end_line(&mut self, end: &Result<(CommandExit, Duration)>) {
        let by_itself = matches!(end, Ok((CommandExit::Exited(_) | CommandExit::NotStarted(_), _)));
        if self.terminal.is_some() && self.deadline.started && !by_itself && self.stdout.ready() {
            let _ = self.stdout.take(b"\r\n");
        }
    }

    fn takes_output(&self) -> bool {
        self.deadline.is_closing() || (self.stdout.ready() && self.stderr.ready())
    }

    /// How a command ends that has passed its deadline.
    fn overdue(&mut self, session: &AgentSession) -> Result<Option<(CommandExit, Duration)>> {
        let exit = match self.deadline.exceeded() {
            None => return Ok(None),
            Some(ExecLimit::Closing) => CommandExit::OutputClosed,
            Some(ExecLimit::Timeout) => CommandExit::TimedOut,
            Some(ExecLimit::Start) => {
                let message = "the agent did not report in time whether the command has started";
                bail!(Refusal::new(RefusalKind::Agent, message));
            }
            Some(ExecLimit::Expiry) => {
                // The VM may have been given more time.
                self.deadline.renew(session.expires());
                if self.deadline.exceeded().is_none() {
                    return Ok(None);
                }
                CommandExit::VmExpired
            }
        };
        Ok(Some((exit, self.deadline.elapsed())))
    }

    /// Says once on the terminal that the VM expires soon.
    fn warn(&mut self, session: &AgentSession) {
        let is_time = self.deadline.warns() && self.stderr.ready();
        let Some(terminal) = self.terminal.as_ref().filter(|_| is_time) else { return };
        let notice = SessionNotices::expiry(session, &mut self.deadline, terminal);
        self.say(notice.as_bytes());
    }

    fn say(&mut self, text: &[u8]) {
        if self.stderr.ready() {
            let _ = self.stderr.take(text);
        }
    }

    fn wait(
        &mut self,
        session: &AgentSession,
        signals: &PendingSignals,
    ) -> Result<Vec<PumpSource>> {
        let link = &session.link;
        let mut sources = vec![(PumpSource::Signals, signals.as_fd(), PollFlags::POLLIN)];
        let raw = self.terminal.as_ref().and_then(AttachedTerminal::raw);
        sources.extend(raw.map(|raw| (PumpSource::Terminal, raw.as_fd(), PollFlags::POLLIN)));
        let blocked = !self.takes_output();
        let mut events = PollFlags::empty();
        events.set(PollFlags::POLLIN, !blocked);
        events.set(PollFlags::POLLOUT, !link.outbox.is_empty());
        // Without any events, poll would still return at once for an agent that hung up.
        if !events.is_empty() {
            sources.push((PumpSource::Link, link.as_fd(), events));
        }
        // Before the terminal is raw it returns lines, with an end of input that is not the command's.
        let is_typed = self.terminal.is_none() || raw.is_some();
        let stdin = self.stdin.waits_for(link).filter(|_| is_typed);
        sources.extend(stdin.map(|stdin| (PumpSource::Stdin, stdin, PollFlags::POLLIN)));
        if !self.deadline.is_closing() {
            let outputs =
                [&self.stdout, &self.stderr].into_iter().filter_map(OutputDrain::waits_for);
            sources.extend(outputs.map(|output| (PumpSource::Output, output, PollFlags::POLLOUT)));
        }
        let news = session.news_source();
        sources.extend(news.map(|news| (PumpSource::News, news, PollFlags::POLLIN)));
        let look = self.signalled.map(|_| Instant::now() + LOOK_INTERVAL);
        let limit = self.deadline.limit().map(|(at, _)| at);
        let can_warn = self.terminal.is_some() && self.stderr.ready();
        let warning = self.deadline.warning().filter(|_| can_warn);
        poll::ready(&sources, [limit, look, warning].into_iter().flatten().min()).context("poll")
    }
}

/// What follows from a frame.
enum FrameEffect {
    None,
    Started,
    /// Its payload was written to an output.
    Wrote(io::Result<()>),
    End(CommandExit, Duration),
    Fail(AgentFailure),
}
