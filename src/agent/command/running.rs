//! One running command, from its start to its exit.

use std::ffi::{CString, OsStr};
use std::fs::File;
use std::io::Read;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use nix::errno::Errno;

use super::failure::failure;
use super::input::StandardInput;
use super::prepare::prepare;
use super::relay::OutputRelay;
use super::spawn::{SpawnError, SpawnStep};
use super::stdio::{CommandOutput, CommandStdio};
use super::{defaults, secrets, spawn, terminal};
use crate::agent::processes::{ChildExit, ChildReaper, ProcessTree};
use crate::agent::vm::AgentContext;
use crate::protocol::{
    AgentFailure, ExecExit, ExecProgram, ExecRequest, FailureKind, FrameOutbox, ProcessEnd,
    WindowSize, WireText,
};
use crate::sys::nonblocking::would_block;
use crate::sys::poll::{self, PollFlags};

/// How long output must pause, after the command has ended, until it counts as complete. Processes that
/// the command left behind may keep its output open. What the command itself wrote is always read.
const QUIET: Duration = Duration::from_millis(100);

/// How long output of such processes is read at most.
const LINGER: Duration = Duration::from_secs(2);

/// How long a command may take to end after its terminal was hung up.
const HANG_UP_GRACE: Duration = Duration::from_secs(2);

/// A command that was started.
#[derive(Debug)]
pub struct RunningCommand {
    pub child_exit: Arc<ChildExit>,
    tree: ProcessTree,
    started: Instant,
    /// When its timeout ends.
    deadline: Option<Instant>,
    timed_out: bool,
    /// Deleted when the command has ended.
    secrets: Option<secrets::SecretDirectory>,
    pub input: StandardInput,
    /// `None` once closed.
    outputs: [Option<CommandOutput>; 2],
    /// Whether its streams are one terminal.
    has_terminal: bool,
    /// The output to read first. They take turns, so that neither starves the other.
    first: usize,
    ended: Option<Ended>,
}

#[derive(Debug)]
struct Ended {
    end: ProcessEnd,
    vm_ending: bool,
    duration: Duration,
    /// When output counts as complete, if there is none until then.
    quiet: Instant,
    /// When it counts as complete in any case; `None` while output of the command itself is unread.
    linger: Option<Instant>,
}

impl RunningCommand {
    /// Starts a command.
    ///
    /// # Errors
    /// [`FailureKind`] tells what was refused or failed.
    pub fn start(
        request: &ExecRequest,
        context: &AgentContext,
    ) -> Result<RunningCommand, AgentFailure> {
        let account = defaults::account(request.user.as_deref(), context)
            .map_err(|message| failure(FailureKind::NoSuchUser, message))?;
        let started = Instant::now();
        let (streams, stdio) = CommandStdio::open(request, account.as_ref()).map_err(|error| {
            failure(FailureKind::Busy, format!("cannot create its streams: {error}"))
        })?;
        let mut secrets = match &request.secrets[..] {
            [] => None,
            secrets => Some(secrets::place(secrets, account.as_ref(), context)?),
        };
        let mut plan = prepare(request, account.as_ref(), context, stdio, secrets.as_mut())?;
        let mut cgroup = None;
        if let Some(cgroups) = context.cgroups() {
            let (created, directory) = cgroups.create().map_err(|error| {
                failure(FailureKind::Busy, format!("cannot create a cgroup: {error}"))
            })?;
            (cgroup, plan.cgroup) = (Some(created), Some(directory));
        }
        let program = match &request.program {
            // A login shell's argv[0] is not its path.
            ExecProgram::Login => plan.candidates.first(),
            _ => plan.argv.first(),
        };
        let program = program.cloned().unwrap_or_default();
        let (pid, child_exit) = spawn::spawn(plan, &context.reaper)
            .map_err(|error| spawn_failure(error, &program, request))?;
        Ok(RunningCommand {
            child_exit,
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

    /// The outputs that are still open.
    pub fn outputs(&self) -> impl Iterator<Item = &File> {
        self.outputs.iter().flatten().map(|output| &output.source)
    }

    /// Moves output into the outbox while there is room for a full frame, or a large amount into the relay, if there
    /// is one and nothing is on its way.
    pub fn read_outputs(
        &mut self,
        outbox: &mut FrameOutbox,
        mut relay: Option<&mut OutputRelay>,
        tag: u64,
    ) {
        for turn in 0..2 {
            let index = (self.first + turn) % 2;
            let Some(output) = &mut self.outputs[index] else { continue };
            let is_full = relay.as_ref().is_some_and(|relay| !relay.is_empty());
            if !outbox.takes_data() || is_full {
                self.first = index;
                return;
            }
            let mut read = Ok(0);
            if let Some(relay) = relay.as_mut().filter(|_| outbox.is_empty() && !self.has_terminal)
            {
                read = relay.take(output.kind, tag, &output.source);
            }
            if let Ok(0) = read {
                read =
                    outbox.push_with(output.kind, tag, usize::MAX, |room| output.source.read(room));
            }
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

    /// Notices the command's end and its timeout. `blocked` means that no output is read because the
    /// outbox is full.
    pub fn update(&mut self, context: &AgentContext, blocked: bool) {
        let now = Instant::now();
        if self.ended.is_none() {
            if let Some((end, at)) = self.child_exit.get() {
                self.secrets = None;
                for output in self.outputs.iter_mut().flatten() {
                    output.owed = output.unread();
                }
                let duration = at.saturating_duration_since(self.started);
                let vm_ending = context.ending.load(Ordering::SeqCst);
                let quiet = now + QUIET;
                self.ended = Some(Ended { end, vm_ending, duration, quiet, linger: None });
            } else if self.deadline.is_some_and(|deadline| now >= deadline) {
                self.timed_out = true;
                self.deadline = None;
                self.tree.kill(&context.reaper);
            }
        }
        if let Some(ended) = &mut self.ended {
            let owes = self.outputs.iter().flatten().any(|output| output.owed > 0);
            if ended.linger.is_none() && !owes {
                ended.linger = Some(now + LINGER);
                ended.quiet = now + QUIET;
            }
            if blocked {
                ended.quiet = now + QUIET;
            }
        }
    }

    /// When to call [`RunningCommand::update`] even if nothing happens.
    pub fn next_update(&self) -> Option<Instant> {
        match &self.ended {
            Some(ended) => ended.linger.map(|linger| linger.min(ended.quiet)),
            None => self.deadline,
        }
    }

    /// The exit to report, once the command has ended and its output is complete.
    pub fn exit(&self) -> Option<ExecExit> {
        let ended = self.ended.as_ref()?;
        let now = Instant::now();
        let over = self.outputs.iter().all(Option::is_none)
            || ended.linger.is_some_and(|linger| now >= linger || now >= ended.quiet);
        over.then_some(ExecExit {
            end: ended.end,
            timed_out: self.timed_out,
            duration_ms: ended.duration.as_millis() as u64,
            vm_ending: ended.vm_ending,
        })
    }

    /// Whether its end was noticed.
    pub fn has_ended(&self) -> bool {
        self.ended.is_some()
    }

    /// Sends a signal to the command's process group.
    pub fn signal(&self, reaper: &ChildReaper, number: i32) {
        self.tree.signal(reaper, number);
    }

    /// Changes the size of the command's terminal, if it has one.
    pub fn resize(&self, size: WindowSize) {
        if let Some(output) = self.outputs[0].as_ref().filter(|_| self.has_terminal) {
            // It fails once the terminal is hung up, when its size does not matter.
            let _ = terminal::resize(&output.source, size);
        }
    }

    /// Ends the command because its client has gone: kills everything it started. A terminal is hung up
    /// first; if the command then ends by itself, the processes it leaves behind live on.
    pub fn abandon(mut self, reaper: &ChildReaper) {
        if self.has_terminal {
            // The kernel hangs up when the last descriptor of this end is closed.
            self.input.close();
            self.outputs = [None, None];
            let deadline = Instant::now() + HANG_UP_GRACE;
            let _ = poll::wait_for(self.child_exit.as_fd(), PollFlags::POLLIN, Some(deadline));
            if self.child_exit.get().is_some() {
                return;
            }
        }
        self.tree.kill(reaper);
    }
}

/// The refusal of a command that did not start.
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
        (SpawnStep::Exec | SpawnStep::Fork, Errno::EAGAIN) => {
            let why = "the system's limit on processes is reached";
            failure(FailureKind::Busy, format!("cannot start {program}: {why}"))
        }
        (SpawnStep::Exec, Errno::ENOMEM) | (SpawnStep::Fork, _) => {
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
