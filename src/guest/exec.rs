//! Running a command: what it is given, and how it ends.

use std::os::fd::{AsFd, OwnedFd};

use anyhow::{Context, Result, bail};

use super::feed::Feed;
use super::outcome::Outcome;
use super::pump::{Pump, START_LIMIT};
use super::seat::Seat;
use super::session::Session;
use super::sink::{Drain, Sink};
use crate::host::signals::Signals;
use crate::host::terminal::Terminal;
use crate::host::wait::Wait;
use crate::model::{self, Refusal};
use crate::protocol::{Exec, Kind, MAX_REQUEST, MAX_SECRETS, Secret};

/// A command's three streams on the host, and the signals meant for it.
#[derive(Debug)]
pub struct ExecIo<'a> {
    /// The request must say `stdin` too.
    pub stdin: Option<Stdin>,
    pub stdout: Sink,
    pub stderr: Sink,
    /// The first that arrives is passed on; a SIGINT or SIGTERM after it gives up. With a terminal,
    /// whose keys go to the guest, each of them is for us, and hangs up.
    pub signals: &'a mut Signals,
}

/// Where a command's input comes from.
#[derive(Debug)]
pub enum Stdin {
    /// Read to its end and no further than the command takes it. It is not made non-blocking, because
    /// other processes may share it.
    Bytes(OwnedFd),
    /// The terminal that the request's is to be like. It is raw while the command runs.
    Terminal(Terminal),
}

impl Session {
    /// Runs a command and moves its bytes until it ends.
    ///
    /// # Errors
    /// [`Refusal`] of kind `Agent` when the agent went away or broke the protocol, of kind `Busy`
    /// when it can start no more, [`Interrupted`](crate::host::signals::Interrupted) when a second
    /// signal asked to give up, and the output's own error, such as a full disk. A command that
    /// could not be started is an [`Outcome`].
    pub fn exec(&mut self, request: &Exec, io: ExecIo<'_>) -> Result<Outcome> {
        let json = serde_json::to_vec(request).context("encode a command")?;
        if json.len() > MAX_REQUEST {
            let message = format!("the command and its environment take {} bytes", json.len());
            let refusal = Refusal::new(model::Kind::Usage, message);
            bail!(refusal.hint("pass long data on standard input (-i)"));
        }
        let secrets: usize = request.secrets.iter().map(Secret::size).sum();
        if secrets > MAX_SECRETS {
            let message = format!("the secrets take {secrets} bytes, more than {MAX_SECRETS}");
            let refusal = Refusal::new(model::Kind::Usage, message);
            bail!(refusal.hint("pass long data on standard input (-i)"));
        }
        let (feed, seat) = match io.stdin.filter(|_| request.stdin) {
            None => (Feed::of_bytes(None), None),
            Some(Stdin::Bytes(source)) => (Feed::of_bytes(Some(source)), None),
            Some(Stdin::Terminal(terminal)) => {
                let source = terminal.as_fd().try_clone_to_owned().context("standard input")?;
                let told = request.tty.as_ref().context("a request without its terminal")?.size;
                (Feed::of_keys(source), Some(Seat::new(terminal, told)))
            }
        };
        let stdout = Drain::new(io.stdout).context("standard output")?;
        let stderr = Drain::new(io.stderr).context("standard error")?;
        let mut pump = Pump::new(request, feed, seat, [stdout, stderr]);
        self.idle = false;
        let mut wait = Wait::within(START_LIMIT).interruptible(io.signals);
        for payload in request.secrets.iter().flat_map(Secret::payloads) {
            self.link.send(Kind::Secret, &payload, &mut wait)?;
        }
        self.link.send(Kind::Exec, &json, &mut wait)?;
        let ended = pump.run(self, io.signals);
        self.link.outbox.wipe();
        let (exit, duration) = ended?;
        let [stdout, stderr] = pump.captured();
        Ok(Outcome { exit, stdout, stderr, duration })
    }
}
