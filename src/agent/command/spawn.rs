//! Starting a command: a new process, the steps until it executes the command. The standard
//! library's `Command` cannot be used: it collects its children itself, and it does not say which
//! of the steps failed.

use std::ffi::{CStr, CString};
use std::os::fd::{AsRawFd, OwnedFd};
use std::ptr;
use std::sync::Arc;

use nix::errno::Errno;
use nix::libc::{self, c_char, c_int};
use nix::unistd::Pid;

use crate::agent::processes::{ChildExit, ChildReaper};

/// The child's stack; it needs less than a page.
const STACK: usize = 64 * 1024;

/// Everything decided before the fork; the child only carries it out.
#[derive(Debug)]
pub struct SpawnPlan {
    /// Paths to try to execute, in order: more than one where `PATH` is searched.
    pub candidates: Vec<CString>,
    pub argv: Vec<CString>,
    pub envp: Vec<CString>,
    /// Directories to try to run in, in order.
    pub directories: Vec<CString>,
    /// Who to become; `None` to stay.
    pub identity: Option<UserIds>,
    /// A file system with the command's secrets, for its eyes only.
    pub secrets: Option<OwnedFd>,
    /// A cgroup's `cgroup.procs`, open for writing, to join.
    pub cgroup: Option<OwnedFd>,
    /// Whether the agent is shielded from the out-of-memory killer and the command must not be.
    pub reset_oom_score: bool,
    /// Standard input, output and error.
    pub stdio: [OwnedFd; 3],
    /// Whether they are a terminal, to be the one that controls the command's session.
    pub terminal: bool,
}

/// The numbers of a user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserIds {
    pub uid: u32,
    pub gid: u32,
    pub groups: Vec<u32>,
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

/// Starts the command, in a session and process group of its own, with default signal dispositions
/// and an empty mask.
///
/// The child shares the agent's memory until it executes the command, and the calling thread stands
/// still meanwhile, as with `vfork`: copying the agent's page tables and then its pages one fault
/// at a time is most of the cost of starting a small program in an emulated guest.
///
/// # Errors
/// The step that failed and why; nothing runs then.
pub fn spawn(plan: SpawnPlan, reaper: &ChildReaper) -> Result<(Pid, Arc<ChildExit>), SpawnError> {
    let argv = pointers(&plan.argv);
    let envp = pointers(&plan.envp);
    let mut child = Child { plan: &plan, argv: &argv, envp: &envp, failure: None };
    // 16-byte aligned, as the C calling convention wants it.
    let mut stack = vec![0_u128; STACK / size_of::<u128>()];
    let top = stack.as_mut_ptr_range().end;
    let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::SIGCHLD;
    let adopted = reaper.adopt(|| {
        // SAFETY: the child runs `run_child` on a stack of its own, large enough for it, with a
        // pointer that stays valid because this thread does not go on before the child has executed
        // the command or ended. It makes only system calls, without allocation, lock or
        // destructor, and no signal handler of this program could run in it: there is none.
        let pid = unsafe {
            libc::clone(run_child, top.cast(), flags, (&raw mut child).cast::<libc::c_void>())
        };
        Errno::result(pid).map(Pid::from_raw)
    });
    let (pid, ending) = adopted.map_err(|errno| SpawnError { step: SpawnStep::Fork, errno })?;
    // SAFETY: the child wrote it, through a pointer the compiler knows nothing of, before this
    // thread went on.
    match unsafe { ptr::read_volatile(&raw const child.failure) } {
        None => Ok((pid, ending)),
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
    failure: Option<SpawnError>,
}

/// What the child does; it never returns.
extern "C" fn run_child(child: *mut libc::c_void) -> c_int {
    // SAFETY: `spawn` passes a pointer to its `Child` and does not touch it meanwhile.
    unsafe {
        let child = &mut *child.cast::<Child<'_>>();
        let (step, errno) = match child.prepare_and_exec() {
            Ok(never) => match never {},
            Err(failure) => failure,
        };
        child.failure = Some(SpawnError { step, errno });
        // Not the C library's: its `_exit` is the system call, its `exit` would run the agent's own
        // clean-up.
        libc::_exit(127)
    }
}

impl Child<'_> {
    unsafe fn prepare_and_exec(&self) -> Result<std::convert::Infallible, (SpawnStep, Errno)> {
        let plan = self.plan;
        // SAFETY: every call is a plain system call on valid data prepared before.
        unsafe {
            libc::setsid();
            default_signals();
            if let Some(cgroup) = &plan.cgroup {
                let joined = libc::write(cgroup.as_raw_fd(), c"0".as_ptr().cast(), 1);
                Errno::result(joined).map_err(|errno| (SpawnStep::Cgroup, errno))?;
            }
            if plan.reset_oom_score {
                let file = libc::open(c"/proc/self/oom_score_adj".as_ptr(), libc::O_WRONLY);
                libc::write(file, c"0".as_ptr().cast(), 1);
                libc::close(file);
            }
            if let Some(secrets) = &plan.secrets {
                mount_secrets(secrets).map_err(|errno| (SpawnStep::Secrets, errno))?;
            }
            for (number, fd) in plan.stdio.iter().enumerate() {
                libc::dup2(fd.as_raw_fd(), number as c_int);
            }
            if plan.terminal {
                let taken = libc::ioctl(0, libc::TIOCSCTTY, 0);
                Errno::result(taken).map_err(|errno| (SpawnStep::Terminal, errno))?;
            }
            libc::umask(0o022);
            if let Some(identity) = &plan.identity {
                become_user(identity).map_err(|errno| (SpawnStep::Identity, errno))?;
            }
            enter(&plan.directories).map_err(|errno| (SpawnStep::Directory, errno))?;
            Err((SpawnStep::Exec, self.exec()))
        }
    }

    unsafe fn exec(&self) -> Errno {
        let mut denied = None;
        for candidate in &self.plan.candidates {
            // SAFETY: both arrays end with a null pointer.
            unsafe {
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
    // The kernel's own structures, all zeros: SIG_DFL, no flags, empty masks. The C library's
    // functions leave out two signals it uses itself, which may have been inherited as ignored.
    let default = [0_u64; 4];
    let none = 0_u64;
    let set_size = size_of_val(&none);
    // SAFETY: system calls on valid data. Numbers that cannot be set fail without effect.
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

/// Mounts the secrets where this process and its children see them, and nobody else. See
/// [`super::secrets`].
unsafe fn mount_secrets(secrets: &OwnedFd) -> Result<(), Errno> {
    // MOVE_MOUNT_F_EMPTY_PATH, from linux/mount.h: what the descriptor itself stands for.
    const FROM_DESCRIPTOR: libc::c_uint = 4;
    let (fd, nothing, here) = (secrets.as_raw_fd(), c"".as_ptr(), libc::AT_FDCWD);
    let path = super::secrets::MOUNT_POINT.as_ptr();
    // SAFETY: system calls on valid strings and an open descriptor. The child shares no information
    // about file systems with the agent, so what is made apart is only its own.
    unsafe {
        Errno::result(libc::unshare(libc::CLONE_NEWNS))?;
        let moved = libc::syscall(libc::SYS_move_mount, fd, nothing, here, path, FROM_DESCRIPTOR);
        Errno::result(moved).map(drop)
    }
}

unsafe fn become_user(identity: &UserIds) -> Result<(), Errno> {
    let groups = &identity.groups;
    // SAFETY: system calls on valid data. They are made directly because the C library's versions
    // signal all threads of the process, which in a forked child are not there.
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
