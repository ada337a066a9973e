//! Running a command: what it is given, and how it ends.

use std::os::fd::{AsFd, OwnedFd};

use anyhow::{Context, Result, bail};

use super::outcome::CommandOutcome;
use super::output::{OutputDrain, OutputSink};
use super::session::AgentSession;
use super::stdin::InputFeed;
use super::stream_pump::{START_LIMIT, StreamPump};
use super::tty::AttachedTerminal;
use crate::host::signals::PendingSignals;
use crate::host::terminal::HostTerminal;
use crate::host::wait::WaitLimit;
use crate::model::{self, Refusal};
use crate::protocol::{ExecRequest, FrameKind, MAX_REQUEST, MAX_SECRETS, NamedSecret};

/// A command's three streams on the host, and the signals meant for it.
#[derive(Debug)]
pub struct ExecIo<'a> {
    /// The request must say `stdin` too.
    pub stdin: Option<StdinSource>,
    pub stdout: OutputSink,
    pub stderr: OutputSink,
    /// The first that arrives is passed on; a SIGINT or SIGTERM after it gives up. With a terminal,
    /// whose keys go to the guest, each of them is for us, and hangs up.
    pub signals: &'a mut PendingSignals,
}

/// Where a command's input comes from.
#[derive(Debug)]
pub enum StdinSource {
    /// Read to its end and no further than the command takes it. It is not made non-blocking, because
    /// other processes may share it.
    Bytes(OwnedFd),
    /// The terminal that the request's is to be like. It is raw while the command runs.
    Terminal(HostTerminal),
}

impl AgentSession {
    /// Runs a command and moves its bytes until it ends.
    ///
    /// # Errors
    /// [`Refusal`] of kind `Agent` when the agent went away or broke the protocol, of kind `Busy`
    /// when it can start no more, [`Interrupted`](crate::host::signals::SignalInterrupt) when a second
    /// signal asked to give up, and the output's own error, such as a full disk. A command that
    /// could not be started is an [`CommandOutcome`].
    pub fn exec(&mut self, request: &ExecRequest, io: ExecIo<'_>) -> Result<CommandOutcome> {
        let json = serde_json::to_vec(request).context("encode a command")?;
        if json.len() > MAX_REQUEST {
            let message = format!("the command and its environment take {} bytes", json.len());
            let refusal = Refusal::new(model::RefusalKind::Usage, message);
            bail!(refusal.hint("pass long data on standard input (-i)"));
        }
        let secrets: usize = request.secrets.iter().map(NamedSecret::size).sum();
        if secrets > MAX_SECRETS {
            let message = format!("the secrets take {secrets} bytes, more than {MAX_SECRETS}");
            let refusal = Refusal::new(model::RefusalKind::Usage, message);
            bail!(refusal.hint("pass long data on standard input (-i)"));
        }
        let (feed, seat) = match io.stdin.filter(|_| request.stdin) {
            None => (InputFeed::of_bytes(None), None),
            Some(StdinSource::Bytes(source)) => (InputFeed::of_bytes(Some(source)), None),
            Some(StdinSource::Terminal(terminal)) => {
                let source = terminal.as_fd().try_clone_to_owned().context("standard input")?;
                let told = request.tty.as_ref().context("a request without its terminal")?.size;
                (InputFeed::of_keys(source), Some(AttachedTerminal::new(terminal, told)))
            }
        };
        let stdout = OutputDrain::new(io.stdout).context("standard output")?;
        let stderr = OutputDrain::new(io.stderr).context("standard error")?;
        let mut pump = StreamPump::new(request, feed, seat, [stdout, stderr]);
        self.idle = false;
        let mut wait = WaitLimit::within(START_LIMIT).interruptible(io.signals);
        for payload in request.secrets.iter().flat_map(NamedSecret::payloads) {
            self.link.send(FrameKind::Secret, &payload, &mut wait)?;
        }
        self.link.send(FrameKind::Exec, &json, &mut wait)?;
        let ended = pump.run(self, io.signals);
        self.link.outbox.wipe();
        let (exit, duration) = ended?;
        let [stdout, stderr] = pump.captured();
        Ok(CommandOutcome { exit, stdout, stderr, duration })
    }
}
