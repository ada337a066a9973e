//! Starting a command: a new process and its steps until exec. The standard library's `Command` cannot be
//! used: it collects its children itself, and does not tell which step failed.

use std::convert::Infallible;
use std::ffi::{CStr, CString};
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, OwnedFd};
use std::ptr;
use std::sync::Arc;

use nix::errno::Errno;
use nix::libc::{self, c_char, c_int};
use nix::unistd::Pid;

use super::clone_into;
use super::login::SCRIPT_FD;
use super::user::UserIds;
use crate::agent::processes::{ChildExit, ChildReaper};

/// The child's stack; it needs less than a page.
const STACK: usize = 64 * 1024;

/// Everything the child needs, decided before the fork.
#[derive(Debug)]
pub struct SpawnPlan {
    /// Paths to try to execute, in order: several if `PATH` is searched.
    pub candidates: Vec<CString>,
    pub argv: Vec<CString>,
    pub envp: Vec<CString>,
    /// Directories to try to run in, in order.
    pub directories: Vec<CString>,
    /// The user to become; `None` for no change.
    pub identity: Option<UserIds>,
    /// A file system with the command's secrets, to be mounted for it only.
    pub secrets: Option<OwnedFd>,
    /// What a login shell reads after its profile, as [`SCRIPT_FD`].
    pub script: Option<OwnedFd>,
    /// The directory of the cgroup to run in.
    pub cgroup: Option<OwnedFd>,
    /// Whether to undo the agent's protection from the out-of-memory killer.
    pub reset_oom_score: bool,
    /// Standard input, output and error.
    pub stdio: [OwnedFd; 3],
    /// Whether they are a terminal, which becomes the controlling terminal of the command's session.
    pub terminal: bool,
}

/// A step between fork and exec.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum SpawnStep {
    Fork,
    Cgroup,
    Secrets,
    Terminal,
    Identity,
    Directory,
    Exec,
}

/// A command that did not start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SpawnError {
    pub step: SpawnStep,
    pub errno: Errno,
}

/// Starts the command in its own session and process group, with default signal dispositions and an
/// empty signal mask.
///
/// As with `vfork`, the child shares the agent's memory until it executes the command, and the calling
/// thread waits for that. In an emulated guest, most of the cost of starting a small program would
/// otherwise be copying page tables and pages.
///
/// # Errors
/// The step that failed and why; the command does not run then.
pub fn spawn(plan: SpawnPlan, reaper: &ChildReaper) -> Result<(Pid, Arc<ChildExit>), SpawnError> {
    let argv = pointers(&plan.argv);
    let envp = pointers(&plan.envp);
    let mut child = Child { plan: &plan, argv: &argv, envp: &envp, joins: false, failure: None };
    // Aligned to 16 bytes, as the C calling convention requires. On this thread's stack, because memory for it would
    // have to be allocated, and would be new to the guest, for each command.
    let mut stack = [const { MaybeUninit::<u128>::uninit() }; STACK / size_of::<u128>()];
    let adopted = reaper.adopt(|| {
        let argument = (&raw mut child).cast::<libc::c_void>();
        // SAFETY: the child runs `run_child` on its own stack, which is large enough. The pointer to
        // `child` stays valid because this thread waits until the child has executed the command or
        // ended. The child only makes system calls, without allocations, locks or destructors, and
        // this program has no signal handler that could run in it.
        unsafe {
            if let Some(cgroup) = &plan.cgroup {
                match clone_into::cgroup(cgroup, &mut stack, run_child, argument) {
                    Err(error) if clone_into::is_missing(error) => {
                        ptr::write_volatile(&raw mut child.joins, true);
                    }
                    cloned => return cloned,
                }
            }
            let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::SIGCHLD;
            let top = stack.as_mut_ptr_range().end;
            Errno::result(libc::clone(run_child, top.cast(), flags, argument)).map(Pid::from_raw)
        }
    });
    let (pid, child_exit) = adopted.map_err(|errno| SpawnError { step: SpawnStep::Fork, errno })?;
    // SAFETY: the child wrote it before this thread continued. The read is volatile because the
    // compiler does not know about that write.
    match unsafe { ptr::read_volatile(&raw const child.failure) } {
        None => Ok((pid, child_exit)),
        Some(failure) => Err(failure),
    }
}

fn pointers(strings: &[CString]) -> Vec<*const c_char> {
    strings.iter().map(|string| string.as_ptr()).chain([ptr::null()]).collect()
}

struct Child<'a> {
    plan: &'a SpawnPlan,
    argv: &'a [*const c_char],
    envp: &'a [*const c_char],
    /// Whether it must join the cgroup itself.
    joins: bool,
    failure: Option<SpawnError>,
}

/// Runs in the child; never returns.
extern "C" fn run_child(child: *mut libc::c_void) -> c_int {
    // SAFETY: `spawn` passes a pointer to its `Child`, and does not use it until this has ended.
    unsafe {
        let child = &mut *child.cast::<Child<'_>>();
        let Err(failure) = child.prepare_and_exec();
        child.failure = Some(failure);
        // Not `exit`, which would run the agent's own exit handlers.
        libc::_exit(127)
    }
}

impl Child<'_> {
    unsafe fn prepare_and_exec(&self) -> Result<Infallible, SpawnError> {
        let plan = self.plan;
        let at = |step| move |errno| SpawnError { step, errno };
        // SAFETY: all calls are system calls on valid data that was prepared before.
        unsafe {
            libc::setsid();
            default_signals();
            if let Some(cgroup) = plan.cgroup.as_ref().filter(|_| self.joins) {
                let name = c"cgroup.procs".as_ptr();
                let file = libc::openat(cgroup.as_raw_fd(), name, libc::O_WRONLY | libc::O_CLOEXEC);
                let joined = libc::write(file, c"0".as_ptr().cast(), 1);
                Errno::result(joined).map_err(at(SpawnStep::Cgroup))?;
            }
            if plan.reset_oom_score {
                let file = libc::open(c"/proc/self/oom_score_adj".as_ptr(), libc::O_WRONLY);
                libc::write(file, c"0".as_ptr().cast(), 1);
                libc::close(file);
            }
            if let Some(secrets) = &plan.secrets {
                mount_secrets(secrets).map_err(at(SpawnStep::Secrets))?;
            }
            for (number, fd) in plan.stdio.iter().enumerate() {
                libc::dup2(fd.as_raw_fd(), number as c_int);
            }
            if let Some(script) = &plan.script {
                match script.as_raw_fd() {
                    SCRIPT_FD => libc::fcntl(SCRIPT_FD, libc::F_SETFD, 0),
                    other => libc::dup2(other, SCRIPT_FD),
                };
            }
            if plan.terminal {
                let taken = libc::ioctl(0, libc::TIOCSCTTY, 0);
                Errno::result(taken).map_err(at(SpawnStep::Terminal))?;
            }
            libc::umask(0o022);
            if let Some(identity) = &plan.identity {
                become_user(identity).map_err(at(SpawnStep::Identity))?;
            }
            enter(&plan.directories).map_err(at(SpawnStep::Directory))?;
            Err(at(SpawnStep::Exec)(self.exec()))
        }
    }

    unsafe fn exec(&self) -> Errno {
        let mut denied = None;
        let is_searched = self.plan.candidates.len() > 1;
        for candidate in &self.plan.candidates {
            // SAFETY: the structure is the kernel's to fill; both arrays end with a null pointer.
            unsafe {
                let mut about = MaybeUninit::<libc::stat>::uninit();
                // An execution that fails costs the kernel more than looking first.
                if is_searched
                    && libc::stat(candidate.as_ptr(), about.as_mut_ptr()) != 0
                    && matches!(Errno::last(), Errno::ENOENT | Errno::ENOTDIR)
                {
                    continue;
                }
                libc::execve(candidate.as_ptr(), self.argv.as_ptr(), self.envp.as_ptr());
            }
            match Errno::last() {
                Errno::ENOENT | Errno::ENOTDIR => {}
                Errno::EACCES => denied = Some(Errno::EACCES),
                other => return other,
            }
        }
        denied.unwrap_or(Errno::ENOENT)
    }
}

unsafe fn default_signals() {
    // The kernel's structures, all zeros: SIG_DFL, no flags, empty masks. The C library's functions
    // exclude two signals that it uses itself, but the agent may have inherited them as ignored.
    let default = [0_u64; 4];
    let none = 0_u64;
    let set_size = size_of_val(&none);
    // SAFETY: system calls on valid data. Signals that cannot be set fail without effect.
    unsafe {
        for signal in 1..=64 {
            let old = ptr::null_mut::<u64>();
            libc::syscall(libc::SYS_rt_sigaction, signal, default.as_ptr(), old, set_size);
        }
        let old = ptr::null_mut::<u64>();
        let how = libc::SIG_SETMASK;
        libc::syscall(libc::SYS_rt_sigprocmask, how, &raw const none, old, set_size);
    }
}

/// Mounts the secrets in a new mount namespace; see [`super::secrets`].
unsafe fn mount_secrets(secrets: &OwnedFd) -> Result<(), Errno> {
    // MOVE_MOUNT_F_EMPTY_PATH from linux/mount.h: the descriptor itself is the source.
    const FROM_DESCRIPTOR: libc::c_uint = 4;
    let (fd, nothing, here) = (secrets.as_raw_fd(), c"".as_ptr(), libc::AT_FDCWD);
    let path = super::secrets::MOUNT_POINT.as_ptr();
    // SAFETY: system calls on valid strings and an open descriptor. Without CLONE_FS the child shares
    // no file system state with the agent, so only the child gets the new namespace.
    unsafe {
        Errno::result(libc::unshare(libc::CLONE_NEWNS))?;
        let moved = libc::syscall(libc::SYS_move_mount, fd, nothing, here, path, FROM_DESCRIPTOR);
        Errno::result(moved).map(drop)
    }
}

unsafe fn become_user(identity: &UserIds) -> Result<(), Errno> {
    let groups = &identity.groups;
    // SAFETY: system calls on valid data. They are direct because the C library's functions signal all
    // threads of the process, which do not exist in the child.
    unsafe {
        Errno::result(libc::syscall(libc::SYS_setgroups, groups.len(), groups.as_ptr()))?;
        Errno::result(libc::syscall(libc::SYS_setgid, identity.gid))?;
        Errno::result(libc::syscall(libc::SYS_setuid, identity.uid))?;
    }
    Ok(())
}

unsafe fn enter(directories: &[CString]) -> Result<(), Errno> {
    let mut last = Errno::ENOENT;
    for directory in directories {
        let directory: &CStr = directory;
        // SAFETY: a system call on a valid string.
        if unsafe { libc::chdir(directory.as_ptr()) } == 0 {
            return Ok(());
        }
        last = Errno::last();
    }
    Err(last)
}
