//! Starting a VMM in such a way that a crash cannot leave a VMM without a record.
//!
//! The child first executes mayfly again, which waits on a pipe. The parent records the child's identity and
//! only then sends the program to execute; exec keeps the child's pid and start time. If the parent dies
//! before, the child reads the end of the pipe and exits.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
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

use super::process;
use super::process_marks::ProcessMark;
use super::seccomp::SyscallFilter;
use crate::model::ProcessId;
use crate::sys::signals::STOPPING;

/// The hidden argument that makes mayfly the launcher.
pub const ARGUMENT: &str = "__launcher";

/// A program to execute.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LaunchProgram {
    pub path: PathBuf,
    pub args: Vec<String>,
    /// The whole environment: nothing is inherited.
    pub env: Vec<(String, String)>,
    pub cwd: PathBuf,
    /// The user it runs as; `None` is the caller.
    pub user: Option<HostUser>,
    /// The numbers of the open files it inherits; all others are closed.
    pub files: Vec<RawFd>,
    pub bounds: LaunchBounds,
}

/// Limits for a program. By default there are none.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LaunchBounds {
    /// Bytes. A write beyond this offset of a file fails; it does not kill the program.
    pub file_size: Option<u64>,
    /// The number of open files.
    pub open_files: Option<u64>,
    /// Gives it an empty network namespace. Requires root, as `binds` do.
    pub no_network: bool,
    /// Files to mount, in a mount namespace of its own.
    pub binds: Vec<BindMount>,
    /// Which system calls it cannot make.
    pub syscalls: Option<SyscallFilter>,
    /// Keeps [`STOPPING`] signals from it. Its VM belongs to a command, which a job's end reaches as well: the command
    /// passes it on to the guest, which may then save its work.
    pub is_stopped_by_owner: bool,
}

/// A file that is mounted over another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BindMount {
    pub file: PathBuf,
    /// An existing file.
    pub at: PathBuf,
    pub access: BindAccess,
}

/// How a bound file may be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum BindAccess {
    Read,
    Write,
    Execute,
}

/// A host user for a VMM.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostUser {
    pub uid: u32,
    pub gid: u32,
    /// Supplementary groups, such as the one that may open `/dev/kvm`.
    pub groups: Vec<u32>,
}

/// A program and its open files.
#[derive(Debug)]
pub struct LaunchSpec {
    pub program: LaunchProgram,
    /// Each keeps its number, which the program's arguments name.
    pub files: Vec<OwnedFd>,
    /// The program's standard output; `None` is the log.
    pub output: Option<File>,
    /// The program's standard error.
    pub log: File,
}

/// A child that waits for its program.
#[derive(Debug)]
pub struct GatedChild {
    pub process: ProcessId,
    program: LaunchProgram,
    input: ChildStdin,
    child: Child,
}

/// Starts a child that waits for its program. Both have the mark of their VM, if they belong to one.
#[expect(clippy::disallowed_methods, reason = "this is where VMMs are started")]
pub fn spawn(launch: LaunchSpec, mark: Option<&ProcessMark>) -> Result<GatedChild> {
    let mut program = launch.program;
    let marks = || mark.into_iter().flat_map(ProcessMark::variables);
    program.env.extend(marks());
    program.files = launch.files.iter().map(AsRawFd::as_raw_fd).collect();
    let output = match launch.output {
        Some(output) => output,
        None => launch.log.try_clone().context("cannot share the VMM's log")?,
    };
    let mut command = Command::new("/proc/self/exe");
    command
        .arg(ARGUMENT)
        .env_clear()
        .envs(marks())
        .stdin(Stdio::piped())
        .stdout(output)
        .stderr(launch.log)
        .preserved_fds(launch.files);
    let mut child = command.spawn().context("cannot start the launcher")?;
    let input = child.stdin.take().context("the launcher has no pipe")?;
    let process = process::identify(child.id() as i32).context("the launcher ended at once")?;
    Ok(GatedChild { process, program, input, child })
}

impl GatedChild {
    /// Lets the child execute its program. From then on it does not depend on this process.
    pub fn release(mut self) -> Result<ReleasedChild> {
        let mut order = serde_json::to_vec(&self.program)?;
        order.push(b'\n');
        self.input.write_all(&order).context("the launcher is gone")?;
        Ok(ReleasedChild { child: self.child })
    }
}

/// A released child. This process is its parent, and must wait for it, or it stays a zombie when it has ended.
#[derive(Debug)]
pub struct ReleasedChild {
    child: Child,
}

impl ReleasedChild {
    /// The signal that has killed it.
    pub fn killed_by(&mut self) -> Option<Signal> {
        let status = self.child.try_wait().ok()??;
        Signal::try_from(status.signal()?).ok()
    }
}

impl Drop for ReleasedChild {
    fn drop(&mut self) {
        let _ = self.child.try_wait();
    }
}

/// Runs in the child: waits for the program and executes it.
pub fn wait_and_become() -> Result<std::convert::Infallible> {
    // A session of its own, so that closing the terminal or Ctrl-C does not reach the VM.
    setsid().context("cannot start a session")?;
    let mut order = Vec::new();
    std::io::stdin()
        .lock()
        .read_to_end(&mut order)
        .context("cannot read which program to start")?;
    if order.last() != Some(&b'\n') {
        // The parent died before it had sent the whole program.
        std::process::exit(0);
    }
    become_program(&serde_json::from_slice(&order).context("cannot parse which program to start")?)
}

#[expect(clippy::disallowed_methods, reason = "replaces this process")]
fn become_program(program: &LaunchProgram) -> Result<std::convert::Infallible> {
    // A VMM's core file would contain the guest's memory.
    setrlimit(Resource::RLIMIT_CORE, 0, 0).context("cannot forbid core files")?;
    nix::sys::prctl::set_no_new_privs().context("cannot set no_new_privs")?;
    rustix::process::umask(Mode::from_raw_mode(0o077));
    close_at_exec_all_but(&program.files)?;
    apply_bounds(&program.bounds)?;
    std::env::set_current_dir(&program.cwd)
        .with_context(|| format!("cannot enter {}", program.cwd.display()))?;
    if let Some(user) = &program.user {
        become_user(user)?;
    }
    if let Some(filter) = program.bounds.syscalls {
        // Last, because what precedes makes calls that the filter refuses.
        filter.apply()?;
    }
    let error = Command::new(&program.path)
        .args(&program.args)
        .env_clear()
        .envs(program.env.iter().map(|(key, value)| (key, value)))
        .stdin(Stdio::null())
        .exec();
    bail!("cannot execute {}: {error}", program.path.display())
}

/// Keeps the program from inheriting what mayfly's caller left open, such as a shell's pipes or make's job
/// server: the reader of such a pipe would wait until the VM ends.
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

fn apply_bounds(bounds: &LaunchBounds) -> Result<()> {
    let mut blocked = SigSet::empty();
    if let Some(most) = bounds.file_size {
        // A write beyond the limit raises this signal, which kills the program; Firecracker ends even if it is
        // ignored. While it is blocked, the write fails with EFBIG.
        blocked.add(Signal::SIGXFSZ);
        setrlimit(Resource::RLIMIT_FSIZE, most, most).context("cannot limit the size of files")?;
    }
    if bounds.is_stopped_by_owner {
        STOPPING.into_iter().for_each(|signal| blocked.add(signal));
    }
    // mayfly has blocked others, such as SIGTERM, which no other program must inherit.
    blocked.thread_set_mask().context("cannot set the signals")?;
    if let Some(most) = bounds.open_files {
        setrlimit(Resource::RLIMIT_NOFILE, most, most).context("cannot limit open files")?;
    }
    if bounds.no_network {
        unshare(CloneFlags::CLONE_NEWNET).context("cannot make a network namespace")?;
    }
    if !bounds.binds.is_empty() {
        unshare(CloneFlags::CLONE_NEWNS).context("cannot make a mount namespace")?;
        // Later mounts are visible only in this namespace, which ends with the program.
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

fn become_user(user: &HostUser) -> Result<()> {
    let groups: Vec<Gid> = user.groups.iter().copied().map(Gid::from_raw).collect();
    let (uid, gid) = (Uid::from_raw(user.uid), Gid::from_raw(user.gid));
    setgroups(&groups).context("cannot set the VMM's groups")?;
    setresgid(gid, gid, gid).context("cannot set the VMM's group")?;
    setresuid(uid, uid, uid).context("cannot set the VMM's user")
}
