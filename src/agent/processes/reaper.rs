//! The only caller of `waitpid`. Orphans of every command become children of the agent, which is the
//! first process or a child subreaper, so it must wait for children it did not start. A second caller of
//! `waitpid` would lose statuses to this one.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::libc;
use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::unistd::Pid;

use crate::protocol::ProcessEnd;

/// Collects every child that ends, and records how the adopted ones ended.
#[derive(Debug, Default)]
pub struct ChildReaper {
    children: Mutex<Children>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Children {
    awaited: HashMap<Pid, Arc<ChildExit>>,
    /// How many are being started; their pids are not known yet.
    starting: usize,
    /// Whether the kernel reported that there is no child, and none was started since.
    none: bool,
}

/// How one child ended, once it has.
#[derive(Debug)]
pub struct ChildExit {
    end: OnceLock<(ProcessEnd, Instant)>,
    event: EventFd,
}

impl ChildExit {
    /// How and when the child ended, if it has.
    pub fn get(&self) -> Option<(ProcessEnd, Instant)> {
        self.end.get().copied()
    }
}

impl AsFd for ChildExit {
    /// Readable once the child has ended.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.event.as_fd()
    }
}

impl ChildReaper {
    /// Creates a reaper and starts its thread.
    ///
    /// # Errors
    /// The kernel allows no more threads.
    pub fn start() -> io::Result<Arc<ChildReaper>> {
        let reaper = Arc::new(ChildReaper::default());
        let worker = Arc::clone(&reaper);
        std::thread::Builder::new().spawn(move || worker.run())?;
        Ok(reaper)
    }

    /// Starts a child with `start`, which returns its pid. Until `start` returns, no unknown child is
    /// collected, so one that ends at once is not missed. No lock is held meanwhile, because starting
    /// includes reading the program from disk.
    ///
    /// # Errors
    /// Those of `start` and of eventfd(2).
    pub fn adopt(
        &self,
        start: impl FnOnce() -> nix::Result<Pid>,
    ) -> nix::Result<(Pid, Arc<ChildExit>)> {
        let event = EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?;
        let exit = Arc::new(ChildExit { end: OnceLock::new(), event });
        {
            let mut children = self.lock();
            children.starting += 1;
            children.none = false;
        }
        let started = start();
        let mut children = self.lock();
        children.starting -= 1;
        if let Ok(pid) = started {
            children.awaited.insert(pid, Arc::clone(&exit));
        }
        self.changed.notify_all();
        started.map(|pid| (pid, exit))
    }

    /// Runs `action` while the adopted child `pid` is not collected, so that its pid cannot belong to
    /// another process. `None` if it was collected before.
    pub fn while_alive<T>(&self, pid: Pid, action: impl FnOnce() -> T) -> Option<T> {
        let children = self.lock();
        children.awaited.contains_key(&pid).then(action)
    }

    /// Waits until there is no child at all; `false` if that takes longer than `limit`.
    pub fn wait_for_none(&self, limit: Duration) -> bool {
        let (children, _) = self
            .changed
            .wait_timeout_while(self.lock(), limit, |children| !children.none)
            .unwrap_or_else(PoisonError::into_inner);
        children.none
    }

    fn run(&self) {
        loop {
            match first_dead_child() {
                Ok(pid) => self.collect(pid),
                Err(Errno::ECHILD) => self.sleep_until_adoption(),
                Err(_) => {}
            }
        }
    }

    fn collect(&self, pid: Pid) {
        let unknown =
            |children: &mut Children| children.starting > 0 && !children.awaited.contains_key(&pid);
        let mut children =
            self.changed.wait_while(self.lock(), unknown).unwrap_or_else(PoisonError::into_inner);
        let Some(end) = collect_status(pid) else { return };
        if let Some(exit) = children.awaited.remove(&pid) {
            let _ = exit.end.set((end, Instant::now()));
            let _ = exit.event.write(1);
        }
    }

    fn sleep_until_adoption(&self) {
        let mut children = self.lock();
        while children.awaited.is_empty() {
            if !children.none && children.starting == 0 {
                children.none = true;
                self.changed.notify_all();
            }
            children = self.changed.wait(children).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Children> {
        self.children.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Waits for a dead child and returns its pid without collecting it: the pid must stay in use until the
/// lock is held. nix's waitid fails for a child that a real-time signal killed, and does not say which.
fn first_dead_child() -> nix::Result<Pid> {
    let flags = libc::WEXITED | libc::WNOWAIT | libc::__WALL;
    // SAFETY: siginfo_t is plain data for which zeros are valid, and waitid writes only to it.
    unsafe {
        let mut info: libc::siginfo_t = std::mem::zeroed();
        Errno::result(libc::waitid(libc::P_ALL, 0, &raw mut info, flags))?;
        Ok(Pid::from_raw(info.si_pid()))
    }
}

/// Collects a dead child.
fn collect_status(pid: Pid) -> Option<ProcessEnd> {
    let mut status = 0;
    // SAFETY: waitpid writes only to the integer it is given.
    let collected =
        unsafe { libc::waitpid(pid.as_raw(), &raw mut status, libc::WNOHANG | libc::__WALL) };
    if collected != pid.as_raw() {
        return None;
    }
    if libc::WIFEXITED(status) {
        Some(ProcessEnd::Code(libc::WEXITSTATUS(status) as u8))
    } else {
        Some(ProcessEnd::Signal(libc::WTERMSIG(status) as u8))
    }
}
