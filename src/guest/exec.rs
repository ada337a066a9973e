//! Running a command in a VM.

use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::exec_deadline::START_LIMIT;
use super::outcome::{CommandExit, CommandOutcome};
use super::output::{OutputDrain, OutputSink};
use super::session::AgentSession;
use super::stdin::InputFeed;
use super::stream_pump::StreamPump;
use super::tty::AttachedTerminal;
use crate::host::signals::PendingSignals;
use crate::host::terminal::HostTerminal;
use crate::host::wait::WaitLimit;
use crate::model::{self, Refusal};
use crate::protocol::{ExecRequest, FrameKind, MAX_REQUEST, MAX_SECRETS, NamedSecret};

/// The host's ends of a command's streams, and its signals.
#[derive(Debug)]
pub struct ExecIo<'a> {
    /// Ignored unless the request has `stdin` set.
    pub stdin: Option<StdinSource>,
    pub stdout: OutputSink,
    pub stderr: OutputSink,
    /// The first is passed on to the command; a SIGINT or SIGTERM after it abandons the command. If the
    /// command has a terminal, its keys go to the guest, so any signal here hangs up.
    pub signals: &'a mut PendingSignals,
}

/// Where a command's standard input comes from.
#[derive(Debug)]
pub enum StdinSource {
    /// Read no faster than the command does. It stays blocking, because other processes may share it.
    Bytes(OwnedFd),
    /// This host's terminal; it is raw while the command runs. The request must have a `tty`.
    Terminal(HostTerminal),
}

impl AgentSession {
    /// Runs a command and transfers its streams until it ends. A command that cannot be started is a
    /// [`CommandOutcome`], not an error.
    ///
    /// # Errors
    /// - [`Refusal`] of kind `Usage`: the request or its secrets are too large; `Agent`: the agent
    ///   disappeared or violated the protocol; `Busy`: it cannot start any more commands.
    /// - [`SignalInterrupt`](crate::host::signals::SignalInterrupt): a second signal arrived.
    /// - The error of standard input or of an output, such as a full disk.
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
        let (stdin, terminal) = match io.stdin.filter(|_| request.stdin) {
            None => (InputFeed::of_bytes(None), None),
            Some(StdinSource::Bytes(source)) => (InputFeed::of_bytes(Some(source)), None),
            Some(StdinSource::Terminal(terminal)) => {
                let source = terminal.as_fd().try_clone_to_owned().context("standard input")?;
                let size = request.tty.as_ref().context("a request without its terminal")?.size;
                (InputFeed::of_keys(source), Some(AttachedTerminal::new(terminal, size)))
            }
        };
        let stdout = OutputDrain::new(io.stdout).context("standard output")?;
        let stderr = OutputDrain::new(io.stderr).context("standard error")?;
        let mut pump = StreamPump::new(request, self.expires(), stdin, terminal, [stdout, stderr]);
        self.idle = false;
        let mut wait = WaitLimit::within(START_LIMIT).interruptible(io.signals);
        for payload in request.secrets.iter().flat_map(NamedSecret::payloads) {
            self.link.send(FrameKind::Secret, &payload, &mut wait)?;
        }
        self.link.send(FrameKind::Exec, &json, &mut wait)?;
        let ended = pump.run(self, io.signals);
        self.link.outbox.wipe();
        let explained = self.explain(ended, &pump);
        let shown = std::mem::take(&mut pump.notices.shown);
        // From here on the terminal is as it was.
        let [stdout, stderr] = pump.captured();
        if let Some(outlook) = &self.outlook {
            outlook.conclusion(shown).iter().for_each(|line| outlook.tell(line));
        }
        let (exit, duration) = explained?;
        Ok(CommandOutcome { exit, stdout, stderr, duration })
    }

    /// The end of a command, or of the agent with it, because its VM ends.
    fn explain(
        &self,
        ended: Result<(CommandExit, Duration)>,
        pump: &StreamPump<'_>,
    ) -> Result<(CommandExit, Duration)> {
        let with_vm = match &ended {
            Ok((CommandExit::Exited(_) | CommandExit::Signalled(_), _)) => pump.vm_ending,
            Ok(_) => false,
            Err(error) => Refusal::is_of_kind(error, model::RefusalKind::Agent),
        };
        match self.ending().filter(|_| with_vm) {
            Some(ending) => Ok((ending.into(), pump.elapsed())),
            None => ended,
        }
    }
}
