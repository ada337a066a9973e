//! One running command: its process tree, its pipes, its time.

use std::collections::VecDeque;
use std::ffi::{CString, OsStr, OsString};
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::libc;

use super::account::Account;
use super::line::set_nonblocking;
use super::reaper::{Ending, Reaper};
use super::spawn::{self, Identity, Plan, SpawnError, Step};
use super::tree::Tree;
use super::world::World;
use crate::protocol::{
    End, Exec, Exit, Failure, FailureKind, Kind, Outbox, Program, STDIN_WINDOW, Text,
};

/// After the command ended, somebody it left behind may hold its output open. What it wrote itself is
/// always waited for; what comes from others only as long as it comes without a pause of this length
const QUIET: Duration = Duration::from_millis(100);

/// and no longer than this.
const LINGER: Duration = Duration::from_secs(2);

/// Credit is returned in lumps: a frame for every small read would cost more than the data.
const CREDIT_LUMP: usize = 64 * 1024;

/// A command that was started.
#[derive(Debug)]
pub struct Job {
    pub ending: Arc<Ending>,
    tree: Tree,
    started: Instant,
    /// When it is killed.
    deadline: Option<Instant>,
    timed_out: bool,
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
        let mut plan = plan(request, account.as_ref(), world, stdio)?;
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
        if self.input.pipe.is_some() && !self.input.at_end {
            self.input.waiting.extend(bytes);
            self.write_input();
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
        let Some(pipe) = &mut input.pipe else { return };
        while !input.waiting.is_empty() {
            let (front, _) = input.waiting.as_slices();
            match pipe.write(front) {
                Ok(count) => {
                    input.waiting.drain(..count);
                    input.taken += count;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(_) => {
                    input.pipe = None;
                    input.waiting = VecDeque::new();
                    return;
                }
            }
        }
        if input.at_end {
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

    /// Looks whether the command ended or its time is over, and acts on it. While the outbox is full
    /// (`blocked`) an output's silence means nothing.
    pub fn tick(&mut self, reaper: &Reaper, blocked: bool) {
        let now = Instant::now();
        if self.ended.is_none()
            && let Some((end, at)) = self.ending.get()
        {
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

fn plan(
    request: &Exec,
    account: Option<&Account>,
    world: &World,
    stdio: [OwnedFd; 3],
) -> Result<Plan, Failure> {
    let mut variables = world.variables(account);
    for (name, value) in &request.env {
        let name = name.as_os_str();
        if name.is_empty() || name.as_bytes().contains(&b'=') {
            let message = format!("{name:?} cannot be a variable's name");
            return Err(failure(FailureKind::Refused, message));
        }
        variables.retain(|(known, _)| known != name);
        variables.push((name.to_owned(), value.as_os_str().to_owned()));
    }
    let argv: Vec<OsString> = match &request.program {
        Program::Argv(argv) => argv.iter().map(|text| text.as_os_str().to_owned()).collect(),
        Program::Shell(line) => {
            vec!["bash".into(), "-lc".into(), line.as_os_str().to_owned()]
        }
    };
    let program = argv
        .first()
        .filter(|program| !program.is_empty())
        .ok_or_else(|| failure(FailureKind::NotFound, "there is no program in an empty command"))?;
    let path =
        variables.iter().find(|(name, _)| name == "PATH").map(|(_, value)| value.as_os_str());
    let candidates = candidates(program, path.unwrap_or(OsStr::new("/usr/bin:/bin")));
    let directories = match &request.cwd {
        Some(cwd) => vec![cwd.as_os_str().to_owned()],
        None => world.directories(account),
    };
    let envp = variables.into_iter().map(|(mut variable, value)| {
        variable.push("=");
        variable.push(value);
        variable
    });
    let identity = account.map(|account| Identity {
        uid: account.uid,
        gid: account.gid,
        groups: account.groups.clone(),
    });
    Ok(Plan {
        candidates: c_strings(candidates)?,
        argv: c_strings(argv)?,
        envp: c_strings(envp)?,
        directories: c_strings(directories)?,
        identity,
        cgroup: None,
        reset_oom_score: world.is_guest(),
        stdio,
    })
}

/// The paths a program's name may mean, as a shell looks for it.
fn candidates(program: &OsStr, path: &OsStr) -> Vec<OsString> {
    if program.as_bytes().contains(&b'/') {
        return vec![program.to_owned()];
    }
    path.as_bytes()
        .split(|&byte| byte == b':')
        .map(|directory| {
            let mut candidate =
                if directory.is_empty() { b".".to_vec() } else { directory.to_vec() };
            candidate.push(b'/');
            candidate.extend(program.as_bytes());
            OsString::from_vec(candidate)
        })
        .collect()
}

fn c_strings(strings: impl IntoIterator<Item = OsString>) -> Result<Vec<CString>, Failure> {
    strings
        .into_iter()
        .map(|string| CString::new(string.into_vec()))
        .collect::<Result<_, _>>()
        .map_err(|_| failure(FailureKind::Refused, "an argument contains a null byte"))
}

fn spawn_failure(error: SpawnError, program: &CString, request: &Exec) -> Failure {
    let program = OsStr::from_bytes(program.as_bytes()).display();
    let why = error.errno.desc();
    match (error.step, error.errno) {
        (Step::Exec, Errno::ENOENT | Errno::ENOTDIR) => {
            failure(FailureKind::NotFound, format!("{program}: not found"))
        }
        (Step::Exec, Errno::E2BIG) => failure(FailureKind::Refused, format!("{program}: {why}")),
        (Step::Exec, Errno::ENOMEM | Errno::EAGAIN) | (Step::Fork, _) => {
            failure(FailureKind::Busy, format!("cannot start {program}: {why}"))
        }
        (Step::Exec, _) => failure(FailureKind::NotExecutable, format!("{program}: {why}")),
        (Step::Directory, _) => {
            let directory = request.cwd.as_ref().map_or(OsStr::new("home"), Text::as_os_str);
            let message = format!("cannot run in {}: {why}", directory.display());
            failure(FailureKind::NoSuchDirectory, message)
        }
        (Step::Identity, _) => {
            let user = request.user.as_deref().unwrap_or_default();
            failure(FailureKind::Refused, format!("cannot become {user:?}: {why}"))
        }
        (Step::Cgroup, _) => failure(FailureKind::Busy, format!("cannot join a cgroup: {why}")),
    }
}

/// A failure whose message fits its frame.
pub fn failure(kind: FailureKind, message: impl Into<String>) -> Failure {
    let mut message: String = message.into();
    if message.len() > 500 {
        let cut = (0..=500).rev().find(|&at| message.is_char_boundary(at)).unwrap_or(0);
        message.truncate(cut);
    }
    Failure { kind, message }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_searched_and_a_path_is_not() {
        let names = candidates(OsStr::new("ls"), OsStr::new("/a::/b"));
        assert_eq!(names, ["/a/ls", "./ls", "/b/ls"]);
        assert_eq!(candidates(OsStr::new("./ls"), OsStr::new("/a")), ["./ls"]);
    }

    #[test]
    fn a_long_message_is_cut_at_a_character() {
        let cut = failure(FailureKind::Internal, "\u{e4}".repeat(1000)).message;
        assert_eq!(cut.len(), 500);
    }
}
