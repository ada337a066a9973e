//! Starting a command: fork, the steps between fork and exec, exec. The standard library's
//! `Command` cannot be used: it collects its children itself, and it does not say which of the
//! steps failed.

use std::ffi::{CStr, CString};
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::ptr;
use std::sync::Arc;

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::libc::{self, c_char, c_int};
use nix::unistd::{ForkResult, Pid, fork, pipe2};

use super::reaper::{Ending, Reaper};

/// Everything decided before the fork; the child only carries it out.
#[derive(Debug)]
pub struct Plan {
    /// Paths to try to execute, in order: more than one where `PATH` is searched.
    pub candidates: Vec<CString>,
    pub argv: Vec<CString>,
    pub envp: Vec<CString>,
    /// Directories to try to run in, in order.
    pub directories: Vec<CString>,
    /// Who to become; `None` to stay.
    pub identity: Option<Identity>,
    /// A cgroup's `cgroup.procs`, open for writing, to join.
    pub cgroup: Option<OwnedFd>,
    /// Whether the agent is shielded from the out-of-memory killer and the command must not be.
    pub reset_oom_score: bool,
    /// Standard input, output and error.
    pub stdio: [OwnedFd; 3],
}

/// The numbers of a user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    pub uid: u32,
    pub gid: u32,
    pub groups: Vec<u32>,
}

/// A step between fork and exec.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Step {
    Fork,
    Cgroup,
    Identity,
    Directory,
    Exec,
}

/// A command that did not start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SpawnError {
    pub step: Step,
    pub errno: Errno,
}

/// Starts the command, in a session and process group of its own, with default signal dispositions
/// and an empty mask.
///
/// # Errors
/// The step that failed and why; nothing runs then.
pub fn spawn(plan: Plan, reaper: &Reaper) -> Result<(Pid, Arc<Ending>), SpawnError> {
    let failed = |errno| SpawnError { step: Step::Fork, errno };
    let argv = pointers(&plan.argv);
    let envp = pointers(&plan.envp);
    let (report, report_end) = pipe2(OFlag::O_CLOEXEC).map_err(failed)?;
    let child = Child { plan: &plan, argv: &argv, envp: &envp, report: report_end.as_raw_fd() };
    // SAFETY: the child makes only system calls on data prepared before the fork: no allocation,
    // no lock, no destructor, until exec or _exit. Other threads' locks stay as they are forever.
    let forked = reaper.adopt(|| match unsafe { fork() }? {
        ForkResult::Parent { child } => Ok(child),
        ForkResult::Child => unsafe { child.run() },
    });
    let (pid, ending) = forked.map_err(failed)?;
    drop(report_end);
    let mut answer = [0; 5];
    match File::from(report).read(&mut answer) {
        // The pipe closed on exec.
        Ok(0) => Ok((pid, ending)),
        Ok(5) => Err(SpawnError {
            step: match answer[0] {
                1 => Step::Cgroup,
                2 => Step::Identity,
                3 => Step::Directory,
                _ => Step::Exec,
            },
            errno: Errno::from_raw(i32::from_le_bytes([
                answer[1], answer[2], answer[3], answer[4],
            ])),
        }),
        _ => Err(failed(Errno::EIO)),
    }
}

/// A null device as standard input.
///
/// # Errors
/// Where `/dev/null` cannot be opened.
pub fn null() -> std::io::Result<OwnedFd> {
    File::open("/dev/null").map(OwnedFd::from)
}

fn pointers(strings: &[CString]) -> Vec<*const c_char> {
    strings.iter().map(|string| string.as_ptr()).chain([ptr::null()]).collect()
}

struct Child<'a> {
    plan: &'a Plan,
    argv: &'a [*const c_char],
    envp: &'a [*const c_char],
    report: RawFd,
}

impl Child<'_> {
    /// # Safety
    /// Only in a freshly forked child.
    unsafe fn run(&self) -> ! {
        // SAFETY: every call below is a plain system call (async-signal-safe) on valid pointers that
        // were prepared before the fork.
        unsafe {
            let (step, errno) = match self.prepare_and_exec() {
                Ok(never) => match never {},
                Err(failure) => failure,
            };
            let mut answer = [0_u8; 5];
            answer[0] = step as u8;
            answer[1..].copy_from_slice(&(errno as i32).to_le_bytes());
            libc::write(self.report, answer.as_ptr().cast(), answer.len());
            libc::_exit(127)
        }
    }

    unsafe fn prepare_and_exec(&self) -> Result<std::convert::Infallible, (Step, Errno)> {
        let plan = self.plan;
        // SAFETY: as for `run`.
        unsafe {
            libc::setsid();
            default_signals();
            if let Some(cgroup) = &plan.cgroup {
                let joined = libc::write(cgroup.as_raw_fd(), c"0".as_ptr().cast(), 1);
                Errno::result(joined).map_err(|errno| (Step::Cgroup, errno))?;
            }
            if plan.reset_oom_score {
                let file = libc::open(c"/proc/self/oom_score_adj".as_ptr(), libc::O_WRONLY);
                libc::write(file, c"0".as_ptr().cast(), 1);
                libc::close(file);
            }
            for (number, fd) in plan.stdio.iter().enumerate() {
                libc::dup2(fd.as_raw_fd(), number as c_int);
            }
            libc::umask(0o022);
            if let Some(identity) = &plan.identity {
                become_user(identity).map_err(|errno| (Step::Identity, errno))?;
            }
            enter(&plan.directories).map_err(|errno| (Step::Directory, errno))?;
            Err((Step::Exec, self.exec()))
        }
    }

    unsafe fn exec(&self) -> Errno {
        let mut denied = None;
        for candidate in &self.plan.candidates {
            // SAFETY: as for `run`; both arrays end with a null pointer.
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

unsafe fn become_user(identity: &Identity) -> Result<(), Errno> {
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

/// A pipe's two ends, the reading one first.
///
/// # Errors
/// Where there are no more descriptors.
pub fn pipe() -> nix::Result<(OwnedFd, OwnedFd)> {
    pipe2(OFlag::O_CLOEXEC)
}

/// Keeps commands from inheriting anything this process inherited: only the three standard streams
/// are passed on, and those are replaced.
///
/// # Errors
/// The kernel's; Linux has this since 5.11.
pub fn keep_descriptors_private() -> nix::Result<()> {
    let flags = libc::CLOSE_RANGE_CLOEXEC;
    // SAFETY: nothing is closed, only a flag is set that acts at exec.
    let result = unsafe { libc::syscall(libc::SYS_close_range, 3, libc::c_uint::MAX, flags) };
    Errno::result(result).map(drop)
}

/// Takes an inherited descriptor by its number.
///
/// # Errors
/// When the number is not open.
pub fn inherited(number: RawFd) -> nix::Result<OwnedFd> {
    // SAFETY: F_GETFD only asks; a number that is not open is an error.
    Errno::result(unsafe { libc::fcntl(number, libc::F_GETFD) })?;
    // SAFETY: it is open, was given to this process for this purpose, and is taken once.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}
