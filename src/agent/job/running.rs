//! One running command: its process tree, its pipes, its time.

use std::ffi::{CString, OsStr};
use std::fs::File;
use std::io::Read;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::errno::Errno;

use super::failure::failure;
use super::input::StandardInput;
use super::prepare::prepare;
use super::spawn::{SpawnError, SpawnStep};
use super::stdio::{CommandOutput, CommandStdio};
use super::{defaults, secrets, spawn, terminal};
use crate::agent::processes::ProcessTree;
use crate::agent::processes::{ChildExit, ChildReaper};
use crate::agent::vm::AgentContext;
use crate::protocol::{
    AgentFailure, ExecExit, ExecProgram, ExecRequest, FailureKind, FrameOutbox, ProcessEnd,
    WindowSize, WireText,
};
use crate::sys::nonblocking::would_block;
use crate::sys::poll::{self, PollFlags};

/// After the command ended, somebody it left behind may hold its output open. What it wrote itself
/// is always waited for; what comes from others only as long as it comes without a pause of this
/// length
const QUIET: Duration = Duration::from_millis(100);

/// and no longer than this.
const LINGER: Duration = Duration::from_secs(2);

/// How long a command whose terminal was hung up may take to end by itself.
const FAREWELL: Duration = Duration::from_secs(2);

/// A command that was started.
#[derive(Debug)]
pub struct RunningCommand {
    pub ending: Arc<ChildExit>,
    tree: ProcessTree,
    started: Instant,
    /// When it is killed.
    deadline: Option<Instant>,
    timed_out: bool,
    /// Its secrets, where they must be taken away when it has ended.
    secrets: Option<secrets::SecretDirectory>,
    pub input: StandardInput,
    outputs: [Option<CommandOutput>; 2],
    /// Whether its streams are one terminal.
    has_terminal: bool,
    /// Which output is read first, so that neither starves the other.
    first: usize,
    /// Set when the end was noticed.
    ended: Option<Ended>,
}

#[derive(Debug, Clone, Copy)]
struct Ended {
    end: ProcessEnd,
    duration: Duration,
    /// When waiting for others' output is over.
    quiet: Instant,
    linger: Option<Instant>,
}

impl RunningCommand {
    /// Starts what the host asks for.
    ///
    /// # Errors
    /// A [`AgentFailure`] that says which part was not possible.
    pub fn start(
        request: &ExecRequest,
        world: &AgentContext,
    ) -> Result<RunningCommand, AgentFailure> {
        let account = defaults::account(request.user.as_deref(), world)
            .map_err(|message| failure(FailureKind::NoSuchUser, message))?;
        let started = Instant::now();
        let (streams, stdio) = CommandStdio::open(request, account.as_ref())
            .map_err(|error| failure(FailureKind::Busy, format!("make its streams: {error}")))?;
        let mut secrets = match &request.secrets[..] {
            [] => None,
            secrets => Some(secrets::place(secrets, account.as_ref(), world)?),
        };
        let mut plan = prepare(request, account.as_ref(), world, stdio, secrets.as_mut())?;
        let cgroup = match world.cgroups().map(|cgroups| cgroups.create()) {
            Some(Ok((cgroup, procs))) => {
                plan.cgroup = Some(procs);
                Some(cgroup)
            }
            Some(Err(error)) => {
                return Err(failure(FailureKind::Busy, format!("make a cgroup: {error}")));
            }
            None => None,
        };
        let program = match &request.program {
            // What it is called is not what it is.
            ExecProgram::Login => plan.candidates.first(),
            _ => plan.argv.first(),
        };
        let program = program.cloned().unwrap_or_default();
        let (pid, ending) = spawn::spawn(plan, &world.reaper)
            .map_err(|error| spawn_failure(error, &program, request))?;
        Ok(RunningCommand {
            ending,
            tree: ProcessTree { pid, cgroup },
            started,
            deadline: request.timeout_ms.map(|ms| started + Duration::from_millis(ms)),
            timed_out: false,
            secrets: secrets.and_then(|secrets| secrets.directory),
            input: StandardInput::new(streams.input),
            outputs: streams.outputs,
            has_terminal: request.tty.is_some(),
            first: 0,
            ended: None,
        })
    }

    /// The command's process id.
    pub fn pid(&self) -> u32 {
        self.tree.pid.as_raw() as u32
    }

    /// The outputs still open, with their index.
    pub fn open_outputs(&self) -> impl Iterator<Item = (usize, &File)> {
        self.outputs
            .iter()
            .enumerate()
            .filter_map(|(index, output)| Some((index, &output.as_ref()?.source)))
    }

    /// Moves output into the outbox while it takes a full frame.
    pub fn read_outputs(&mut self, outbox: &mut FrameOutbox, tag: u64) {
        for turn in 0..2 {
            let index = (self.first + turn) % 2;
            let Some(output) = &mut self.outputs[index] else { continue };
            if !outbox.takes_data() {
                self.first = index;
                return;
            }
            let read =
                outbox.push_with(output.kind, tag, usize::MAX, |room| output.source.read(room));
            match read {
                Ok(0) => self.outputs[index] = None,
                Ok(count) => {
                    if let Some(ended) = &mut self.ended {
                        output.owed = output.owed.saturating_sub(count).min(output.unread());
                        ended.quiet = Instant::now() + QUIET;
                    }
                }
                Err(error) if would_block(&error) => {}
                Err(_) => self.outputs[index] = None,
            }
        }
        self.first = 1 - self.first;
    }

    /// Looks whether the command ended or its time is over, and acts on it. While the outbox is
    /// full (`blocked`) an output's silence means nothing.
    pub fn tick(&mut self, reaper: &ChildReaper, blocked: bool) {
        let now = Instant::now();
        if self.ended.is_none()
            && let Some((end, at)) = self.ending.get()
        {
            self.secrets = None;
            for output in self.outputs.iter_mut().flatten() {
                output.owed = output.unread();
            }
            self.ended = Some(Ended {
                end,
                duration: at.saturating_duration_since(self.started),
                quiet: now + QUIET,
                linger: None,
            });
        }
        if self.ended.is_none() && self.deadline.is_some_and(|deadline| now >= deadline) {
            self.timed_out = true;
            self.deadline = None;
            self.tree.kill(reaper);
        }
        if let Some(ended) = &mut self.ended
            && ended.linger.is_none()
            && self.outputs.iter().flatten().all(|output| output.owed == 0)
        {
            ended.linger = Some(now + LINGER);
            ended.quiet = now + QUIET;
        }
        if let Some(ended) = &mut self.ended
            && blocked
        {
            ended.quiet = now + QUIET;
        }
    }

    /// When to look again although nothing happened.
    pub fn next_tick(&self) -> Option<Instant> {
        match &self.ended {
            Some(ended) => ended.linger.map(|linger| linger.min(ended.quiet)),
            None => self.deadline,
        }
    }

    /// What to report, once the command ended and its output is complete.
    pub fn exit(&self) -> Option<ExecExit> {
        let ended = self.ended.as_ref()?;
        let now = Instant::now();
        let over = self.outputs.iter().all(Option::is_none)
            || ended.linger.is_some_and(|linger| now >= linger || now >= ended.quiet);
        over.then_some(ExecExit {
            end: ended.end,
            timed_out: self.timed_out,
            duration_ms: ended.duration.as_millis() as u64,
        })
    }

    /// Whether the command ended.
    pub fn has_ended(&self) -> bool {
        self.ended.is_some()
    }

    /// Sends a signal to the command's process group.
    pub fn signal(&self, reaper: &ChildReaper, number: i32) {
        self.tree.signal(reaper, number);
    }

    /// Gives the command's terminal, if it has one, another size.
    pub fn resize(&self, size: WindowSize) {
        if let Some(output) = self.outputs[0].as_ref().filter(|_| self.has_terminal) {
            // One that cannot be resized any more is one that nobody looks at any more.
            let _ = terminal::resize(&output.source, size);
        }
    }

    /// Ends the command because there is nobody left whom it could tell anything. Everything it
    /// started is killed; but a terminal is hung up, and a command that ends by itself then has had
    /// the chance to save what there was to save, and to leave behind what shall live on.
    pub fn abandon(mut self, reaper: &ChildReaper) {
        if self.has_terminal {
            // With the last descriptor of this end, the kernel tells the other.
            self.input.close();
            self.outputs = [None, None];
            let deadline = Instant::now() + FAREWELL;
            let _ = poll::wait_for(self.ending.as_fd(), PollFlags::POLLIN, Some(deadline));
            if self.ending.get().is_some() {
                return;
            }
        }
        self.tree.kill(reaper);
    }
}

/// Why a command did not start, for the host.
fn spawn_failure(error: SpawnError, program: &CString, request: &ExecRequest) -> AgentFailure {
    let program = OsStr::from_bytes(program.as_bytes()).display();
    let why = error.errno.desc();
    match (error.step, error.errno) {
        (SpawnStep::Exec, Errno::ENOENT | Errno::ENOTDIR) => {
            failure(FailureKind::NotFound, format!("{program}: not found"))
        }
        (SpawnStep::Exec, Errno::E2BIG) => {
            failure(FailureKind::Refused, format!("{program}: {why}"))
        }
        (SpawnStep::Exec, Errno::ENOMEM | Errno::EAGAIN) | (SpawnStep::Fork, _) => {
            failure(FailureKind::Busy, format!("cannot start {program}: {why}"))
        }
        (SpawnStep::Exec, _) => failure(FailureKind::NotExecutable, format!("{program}: {why}")),
        (SpawnStep::Directory, _) => {
            let directory = request.cwd.as_ref().map_or(OsStr::new("home"), WireText::as_os_str);
            let message = format!("cannot run in {}: {why}", directory.display());
            failure(FailureKind::NoSuchDirectory, message)
        }
        (SpawnStep::Identity, _) => {
            let user = request.user.as_deref().unwrap_or_default();
            failure(FailureKind::Refused, format!("cannot become {user:?}: {why}"))
        }
        (SpawnStep::Secrets, _) => {
            failure(FailureKind::Internal, format!("cannot mount its secrets: {why}"))
        }
        (SpawnStep::Terminal, _) => {
            failure(FailureKind::Internal, format!("cannot take over the terminal: {why}"))
        }
        (SpawnStep::Cgroup, _) => {
            failure(FailureKind::Busy, format!("cannot join a cgroup: {why}"))
        }
    }
}
