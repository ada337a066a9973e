//! One running command: its process tree, its pipes, its time.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::libc;

use super::line::set_nonblocking;
use super::plan::{failure, plan, spawn_failure};
use super::reaper::{Ending, Reaper};
use super::secrets;
use super::spawn;
use super::tree::Tree;
use super::world::World;
use crate::protocol::{
    End, Exec, Exit, Failure, FailureKind, Kind, Outbox, STDIN_WINDOW, STREAM_PAYLOAD,
};

/// After the command ended, somebody it left behind may hold its output open. What it wrote itself
/// is always waited for; what comes from others only as long as it comes without a pause of this
/// length
const QUIET: Duration = Duration::from_millis(100);

/// and no longer than this.
const LINGER: Duration = Duration::from_secs(2);

/// Credit is returned in lumps: a frame for every small read would cost more than the data.
const CREDIT_LUMP: usize = STREAM_PAYLOAD;

/// A command that was started.
#[derive(Debug)]
pub struct Job {
    pub ending: Arc<Ending>,
    tree: Tree,
    started: Instant,
    /// When it is killed.
    deadline: Option<Instant>,
    timed_out: bool,
    /// Its secrets, where they must be taken away when it has ended.
    secrets: Option<secrets::Directory>,
    input: Input,
    outputs: [Option<Output>; 2],
    /// Which output is read first, so that neither starves the other.
    first: usize,
    /// Set when the end was noticed.
    ended: Option<Ended>,
}

#[derive(Debug)]
struct Input {
    /// The pipe; `None` once closed.
    pipe: Option<File>,
    waiting: VecDeque<u8>,
    at_end: bool,
    /// What the host may still send.
    credit: usize,
    /// What the command took and the host was not told of.
    taken: usize,
}

#[derive(Debug)]
struct Output {
    pipe: File,
    kind: Kind,
    /// Bytes the command itself had written and that were not read when it ended.
    owed: usize,
}

#[derive(Debug, Clone, Copy)]
struct Ended {
    end: End,
    duration: Duration,
    /// When waiting for others' output is over.
    quiet: Instant,
    linger: Option<Instant>,
}

impl Job {
    /// Starts what the host asks for.
    ///
    /// # Errors
    /// A [`Failure`] that says which part was not possible.
    pub fn start(request: &Exec, world: &World) -> Result<Job, Failure> {
        if request.tty.is_some() {
            return Err(failure(FailureKind::Refused, "this agent has no terminals yet"));
        }
        let account = world
            .account(request.user.as_deref())
            .map_err(|message| failure(FailureKind::NoSuchUser, message))?;
        let started = Instant::now();
        let (pipes, stdio) = Pipes::open(request.stdin)
            .map_err(|error| failure(FailureKind::Busy, format!("make pipes: {error}")))?;
        let mut secrets = match &request.secrets[..] {
            [] => None,
            secrets => Some(secrets::place(secrets, account.as_ref(), world)?),
        };
        let mut plan = plan(request, account.as_ref(), world, stdio, secrets.as_mut())?;
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
        let program = plan.argv.first().cloned().unwrap_or_default();
        let (pid, ending) = spawn::spawn(plan, &world.reaper)
            .map_err(|error| spawn_failure(error, &program, request))?;
        Ok(Job {
            ending,
            tree: Tree { pid, cgroup },
            started,
            deadline: request.timeout_ms.map(|ms| started + Duration::from_millis(ms)),
            timed_out: false,
            secrets: secrets.and_then(|secrets| secrets.directory),
            input: Input {
                at_end: !request.stdin,
                pipe: pipes.input,
                waiting: VecDeque::new(),
                credit: STDIN_WINDOW,
                taken: 0,
            },
            outputs: [
                Some(Output { pipe: pipes.output, kind: Kind::Stdout, owed: 0 }),
                Some(Output { pipe: pipes.error, kind: Kind::Stderr, owed: 0 }),
            ],
            first: 0,
            ended: None,
        })
    }

    /// The command's process id.
    pub fn pid(&self) -> u32 {
        self.tree.pid.as_raw() as u32
    }

    /// Takes bytes for standard input. `false` when the host had no credit for them.
    pub fn feed(&mut self, bytes: &[u8]) -> bool {
        let Some(credit) = self.input.credit.checked_sub(bytes.len()) else {
            return false;
        };
        self.input.credit = credit;
        // Bytes for a command that closed its input are lost, as in any pipe; no credit comes back
        // for them, so the host stops sending.
        let input = &mut self.input;
        if !input.at_end {
            // Straight to the command where nothing waits before it: copying is what moving bytes
            // costs in an emulated guest.
            let count = if input.waiting.is_empty() { give(&mut input.pipe, bytes) } else { 0 };
            input.taken += count;
            if input.pipe.is_some() {
                input.waiting.extend(&bytes[count..]);
            }
        }
        true
    }

    /// No more bytes come.
    pub fn feed_end(&mut self) {
        self.input.at_end = true;
        self.write_input();
    }

    /// The input's pipe, while bytes wait for it.
    pub fn hungry(&self) -> Option<impl AsFd + '_> {
        self.input.pipe.as_ref().filter(|_| !self.input.waiting.is_empty())
    }

    /// Gives the command what it takes now.
    pub fn write_input(&mut self) {
        let input = &mut self.input;
        while !input.waiting.is_empty() {
            let count = give(&mut input.pipe, input.waiting.as_slices().0);
            if count == 0 {
                break;
            }
            input.waiting.drain(..count);
            input.taken += count;
        }
        if input.pipe.is_none() {
            input.waiting = VecDeque::new();
        } else if input.at_end && input.waiting.is_empty() {
            input.pipe = None;
        }
    }

    /// Credit to return to the host now, if any.
    pub fn take_credit(&mut self) -> Option<u32> {
        let input = &mut self.input;
        let due = input.taken >= CREDIT_LUMP || (input.taken > 0 && input.waiting.is_empty());
        if !due || input.at_end {
            return None;
        }
        let bytes = std::mem::take(&mut input.taken);
        input.credit += bytes;
        Some(bytes as u32)
    }

    /// The outputs still open, with their index.
    pub fn open_outputs(&self) -> impl Iterator<Item = (usize, &File)> {
        self.outputs
            .iter()
            .enumerate()
            .filter_map(|(index, output)| Some((index, &output.as_ref()?.pipe)))
    }

    /// Moves output into the outbox while it takes a full frame.
    pub fn read_outputs(&mut self, outbox: &mut Outbox, tag: u64) {
        for turn in 0..2 {
            let index = (self.first + turn) % 2;
            let Some(output) = &mut self.outputs[index] else { continue };
            if !outbox.takes_data() {
                self.first = index;
                return;
            }
            let read =
                outbox.push_with(output.kind, tag, usize::MAX, |room| output.pipe.read(room));
            match read {
                Ok(0) => self.outputs[index] = None,
                Ok(count) => {
                    output.owed = output.owed.saturating_sub(count);
                    if let Some(ended) = &mut self.ended {
                        ended.quiet = Instant::now() + QUIET;
                    }
                }
                Err(error) if not_yet(&error) => {}
                Err(_) => self.outputs[index] = None,
            }
        }
        self.first = 1 - self.first;
    }

    /// Looks whether the command ended or its time is over, and acts on it. While the outbox is
    /// full (`blocked`) an output's silence means nothing.
    pub fn tick(&mut self, reaper: &Reaper, blocked: bool) {
        let now = Instant::now();
        if self.ended.is_none()
            && let Some((end, at)) = self.ending.get()
        {
            self.secrets = None;
            for output in self.outputs.iter_mut().flatten() {
                output.owed = unread(&output.pipe);
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
    pub fn exit(&self) -> Option<Exit> {
        let ended = self.ended.as_ref()?;
        let now = Instant::now();
        let over = self.outputs.iter().all(Option::is_none)
            || ended.linger.is_some_and(|linger| now >= linger || now >= ended.quiet);
        over.then_some(Exit {
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
    pub fn signal(&self, reaper: &Reaper, number: i32) {
        self.tree.signal(reaper, number);
    }

    /// Kills everything the command started.
    pub fn kill(&self, reaper: &Reaper) {
        self.tree.kill(reaper);
    }
}

/// Writes what the command takes now to its input, and closes one that it has closed. Returns how
/// much it took.
fn give(pipe: &mut Option<File>, bytes: &[u8]) -> usize {
    let Some(file) = pipe else { return 0 };
    loop {
        match file.write(bytes) {
            Ok(count) => return count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return 0,
            Err(_) => {
                *pipe = None;
                return 0;
            }
        }
    }
}

struct Pipes {
    input: Option<File>,
    output: File,
    error: File,
}

impl Pipes {
    fn open(with_input: bool) -> io::Result<(Pipes, [OwnedFd; 3])> {
        let (stdin, input) = if with_input {
            let (theirs, ours) = spawn::pipe()?;
            (theirs, Some(ours))
        } else {
            (spawn::null()?, None)
        };
        let (output, stdout) = spawn::pipe()?;
        let (error, stderr) = spawn::pipe()?;
        set_nonblocking(&output)?;
        set_nonblocking(&error)?;
        if let Some(input) = &input {
            set_nonblocking(input)?;
        }
        let pipes =
            Pipes { input: input.map(File::from), output: output.into(), error: error.into() };
        Ok((pipes, [stdin, stdout, stderr]))
    }
}

fn not_yet(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}

/// How many bytes wait in a pipe.
fn unread(pipe: &File) -> usize {
    let mut count: libc::c_int = 0;
    // SAFETY: FIONREAD writes one integer.
    let result = unsafe { libc::ioctl(pipe.as_raw_fd(), libc::FIONREAD, &raw mut count) };
    if result == 0 { count.max(0) as usize } else { 0 }
}
