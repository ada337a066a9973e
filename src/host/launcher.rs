//! Starting a VMM so that no crash leaves one nobody knows of.
//!
//! The child is our own program, executed again, waiting on a pipe. The parent records who the child
//! is and only then sends what it shall become; the child turns into it by exec, so pid and start
//! time stay. If the parent dies first, the child reads the end of the pipe and exits.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, Stdio};

use anyhow::{Context, Result, bail};
use command_fds::CommandFdExt;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::signal::{SigSet, Signal};
use nix::unistd::{Gid, Uid, setgroups, setresgid, setresuid, setsid};
use rustix::fs::Mode;
use rustix::io::{FdFlags, fcntl_setfd};
use serde::{Deserialize, Serialize};

use super::process::{self, MARK};
use crate::model::ProcessId;

/// The hidden argument that makes our program the gate.
pub const ARGUMENT: &str = "__gate";

/// What shall be executed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LaunchProgram {
    pub path: PathBuf,
    pub args: Vec<String>,
    /// The whole environment: nothing of ours is inherited.
    pub env: Vec<(String, String)>,
    pub cwd: PathBuf,
    /// Who it runs as; `None` leaves it the caller's own user.
    pub user: Option<HostUser>,
    /// The open files it is born with, by number; every other one is closed.
    pub files: Vec<RawFd>,
    pub bounds: LaunchBounds,
}

/// What a program is kept to. The default is nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LaunchBounds {
    /// No write passes this offset of any file: it fails, and does not kill.
    pub file_size: Option<u64>,
    /// How many files may be open.
    pub open_files: Option<u64>,
    /// A network namespace with nothing in it. For root only, as are binds.
    pub no_network: bool,
    /// Files that appear where the program looks for them, in a mount namespace of its own.
    pub binds: Vec<BindMount>,
}

/// A file that appears at the place of another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BindMount {
    pub file: PathBuf,
    /// A file that exists.
    pub at: PathBuf,
    pub access: BindAccess,
}

/// What may be done with a bound file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum BindAccess {
    Read,
    Write,
    Execute,
}

/// A host user a VMM is confined to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostUser {
    pub uid: u32,
    pub gid: u32,
    /// Supplementary groups, such as the one that may open `/dev/kvm`.
    pub groups: Vec<u32>,
}

/// A program and the open files it is born with.
#[derive(Debug)]
pub struct LaunchSpec {
    pub program: LaunchProgram,
    /// Each keeps its number in the new program, whose arguments name it.
    pub files: Vec<OwnedFd>,
    /// Takes the program's standard output, if that is something apart.
    pub output: Option<File>,
    /// Takes the program's standard error, and its output if nothing else does.
    pub log: File,
}

/// A child that waits to be released.
#[derive(Debug)]
pub struct GatedChild {
    pub process: ProcessId,
    program: LaunchProgram,
    gate: ChildStdin,
    child: Child,
}

/// Starts the waiting child. `mark` names the VM's directory, see [`MARK`].
#[expect(clippy::disallowed_methods, reason = "this is where VMMs are born")]
pub fn spawn(launch: LaunchSpec, mark: &str) -> Result<GatedChild> {
    let mut program = launch.program;
    program.env.push((MARK.into(), mark.into()));
    program.files = launch.files.iter().map(AsRawFd::as_raw_fd).collect();
    let output = match launch.output {
        Some(output) => output,
        None => launch.log.try_clone().context("cannot share the VMM's log")?,
    };
    let mut command = Command::new("/proc/self/exe");
    command
        .arg(ARGUMENT)
        .env_clear()
        .env(MARK, mark)
        .stdin(Stdio::piped())
        .stdout(output)
        .stderr(launch.log)
        .preserved_fds(launch.files);
    let mut child = command.spawn().context("cannot start the launcher")?;
    let gate = child.stdin.take().context("the launcher has no pipe")?;
    let process = process::identify(child.id() as i32).context("the launcher ended at once")?;
    Ok(GatedChild { process, program, gate, child })
}

impl GatedChild {
    /// Lets the child become the program. From here on it lives without us.
    pub fn release(mut self) -> Result<ReleasedChild> {
        let mut order = serde_json::to_vec(&self.program)?;
        order.push(b'\n');
        self.gate.write_all(&order).context("the launcher is gone")?;
        Ok(ReleasedChild { child: self.child })
    }
}

/// A released child. While the command that started it lives, it is the child's parent and must
/// collect it, or a dead VMM stays a zombie.
#[derive(Debug)]
pub struct ReleasedChild {
    child: Child,
}

impl Drop for ReleasedChild {
    fn drop(&mut self) {
        let _ = self.child.try_wait();
    }
}

/// The child's side: waits for the order and executes it. Returns only when there is none.
pub fn wait_and_become() -> Result<std::convert::Infallible> {
    // A session of its own, so that a closed terminal or Ctrl-C there does not reach the VM.
    setsid().context("cannot leave the session")?;
    let mut order = Vec::new();
    std::io::stdin().lock().read_to_end(&mut order).context("cannot read the order")?;
    if order.last() != Some(&b'\n') {
        // The command died before it released the gate, or in the middle of doing so.
        std::process::exit(0);
    }
    become_program(&serde_json::from_slice(&order).context("the order is not understood")?)
}

#[expect(clippy::disallowed_methods, reason = "replaces this process")]
fn become_program(program: &LaunchProgram) -> Result<std::convert::Infallible> {
    // A core of a VMM holds the guest's memory.
    setrlimit(Resource::RLIMIT_CORE, 0, 0).context("cannot forbid core files")?;
    nix::sys::prctl::set_no_new_privs().context("cannot give up new privileges")?;
    rustix::process::umask(Mode::from_raw_mode(0o077));
    close_at_exec_all_but(&program.files)?;
    enclose(&program.bounds)?;
    std::env::set_current_dir(&program.cwd)
        .with_context(|| format!("cannot enter {}", program.cwd.display()))?;
    if let Some(user) = &program.user {
        confine(user)?;
    }
    let error = Command::new(&program.path)
        .args(&program.args)
        .env_clear()
        .envs(program.env.iter().map(|(key, value)| (key, value)))
        .stdin(Stdio::null())
        .exec();
    bail!("cannot execute {}: {error}", program.path.display())
}

/// What our own caller left open (a shell's pipes, make's job server) must not live on in a VMM: a
/// pipe held open there keeps its reader waiting for as long as the VM runs.
fn close_at_exec_all_but(keep: &[RawFd]) -> Result<()> {
    let open = std::fs::read_dir("/proc/self/fd").context("cannot list open files")?;
    let numbers: Vec<RawFd> =
        open.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
    for number in numbers {
        if number > 2 && !keep.contains(&number) {
            // SAFETY: the number is only marked, not closed or used, and a number that is no longer
            // open (the listing's own) gives EBADF. Nothing else runs in this process.
            let file = unsafe { BorrowedFd::borrow_raw(number) };
            let _ = fcntl_setfd(file, FdFlags::CLOEXEC);
        }
    }
    Ok(())
}

fn enclose(bounds: &LaunchBounds) -> Result<()> {
    let mut blocked = SigSet::empty();
    if let Some(most) = bounds.file_size {
        // A write beyond the limit would end the program by this signal; Firecracker does so even
        // where it is ignored. Blocked, it waits for ever, and the write fails with EFBIG.
        blocked.add(Signal::SIGXFSZ);
        setrlimit(Resource::RLIMIT_FSIZE, most, most).context("cannot limit the size of files")?;
    }
    // What mayfly itself has blocked, SIGTERM among it, the program must not.
    blocked.thread_set_mask().context("cannot set the signals")?;
    if let Some(most) = bounds.open_files {
        setrlimit(Resource::RLIMIT_NOFILE, most, most).context("cannot limit open files")?;
    }
    if bounds.no_network {
        unshare(CloneFlags::CLONE_NEWNET).context("cannot make a network namespace")?;
    }
    if !bounds.binds.is_empty() {
        unshare(CloneFlags::CLONE_NEWNS).context("cannot make a mount namespace")?;
        // What is mounted from here on stays in here, and ends with the program.
        let nothing = None::<&str>;
        mount(nothing, "/", nothing, MsFlags::MS_REC | MsFlags::MS_PRIVATE, nothing)
            .context("cannot make mounts private")?;
    }
    bounds.binds.iter().try_for_each(BindMount::mount)
}

impl BindMount {
    fn mount(&self) -> Result<()> {
        let cannot = || format!("cannot mount {} at {}", self.file.display(), self.at.display());
        let nothing = None::<&str>;
        mount(Some(&self.file), &self.at, nothing, MsFlags::MS_BIND, nothing)
            .with_context(cannot)?;
        let mut flags =
            MsFlags::MS_BIND | MsFlags::MS_REMOUNT | MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
        if self.access != BindAccess::Write {
            flags |= MsFlags::MS_RDONLY;
        }
        if self.access != BindAccess::Execute {
            flags |= MsFlags::MS_NOEXEC;
        }
        mount(nothing, &self.at, nothing, flags, nothing).with_context(cannot)
    }
}

fn confine(user: &HostUser) -> Result<()> {
    let groups: Vec<Gid> = user.groups.iter().copied().map(Gid::from_raw).collect();
    let (uid, gid) = (Uid::from_raw(user.uid), Gid::from_raw(user.gid));
    setgroups(&groups).context("cannot set the VMM's groups")?;
    setresgid(gid, gid, gid).context("cannot set the VMM's group")?;
    setresuid(uid, uid, uid).context("cannot set the VMM's user")
}
