//! The one place that owns `waitpid`. Orphans of every command become children of the agent, as the
//! first process or as a child subreaper, so it must wait for children it never started; a second
//! caller of `waitpid` would lose statuses to this one.

use std::collections::HashMap;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::libc;
use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::unistd::Pid;

use crate::protocol::ProcessEnd;

/// Collects every child that ends and tells whoever asked for it.
#[derive(Debug, Default)]
pub struct ChildReaper {
    children: Mutex<Children>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Children {
    awaited: HashMap<Pid, Arc<ChildExit>>,
    /// How many are being started, whose pids are not known yet.
    starting: usize,
    /// Whether the kernel said that there is no child at all, and none was started since.
    none: bool,
}

/// How one child ended, once it has.
#[derive(Debug)]
pub struct ChildExit {
    end: OnceLock<(ProcessEnd, Instant)>,
    event: EventFd,
}

impl ChildExit {
    /// How and when it ended, if it did.
    pub fn get(&self) -> Option<(ProcessEnd, Instant)> {
        self.end.get().copied()
    }
}

impl AsFd for ChildExit {
    /// Readable from the end on.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.event.as_fd()
    }
}

impl ChildReaper {
    /// A reaper and its thread.
    pub fn start() -> Arc<ChildReaper> {
        let reaper = Arc::new(ChildReaper::default());
        let worker = Arc::clone(&reaper);
        std::thread::spawn(move || worker.run());
        reaper
    }

    /// Starts a child with `start`, which returns its pid, and returns the place where its end will
    /// show. A child that ends at once is not missed: strangers are not collected meanwhile.
    /// Nothing is locked meanwhile either, because starting takes as long as reading the program
    /// does.
    ///
    /// # Errors
    /// What `start` returns, or why there is no event descriptor.
    pub fn adopt(
        &self,
        start: impl FnOnce() -> nix::Result<Pid>,
    ) -> nix::Result<(Pid, Arc<ChildExit>)> {
        let event = EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?;
        let ending = Arc::new(ChildExit { end: OnceLock::new(), event });
        {
            let mut children = self.lock();
            children.starting += 1;
            children.none = false;
        }
        let started = start();
        let mut children = self.lock();
        children.starting -= 1;
        if let Ok(pid) = started {
            children.awaited.insert(pid, Arc::clone(&ending));
        }
        self.changed.notify_all();
        started.map(|pid| (pid, ending))
    }

    /// Runs `action` while `pid` certainly is the child that was adopted: it has not been waited
    /// for and will not be meanwhile, so its number belongs to nobody else. `None` when it ended
    /// before.
    pub fn while_alive<T>(&self, pid: Pid, action: impl FnOnce() -> T) -> Option<T> {
        let children = self.lock();
        children.awaited.contains_key(&pid).then(action)
    }

    /// Waits until there is no child at all; `false` when that takes longer than `limit`.
    pub fn wait_for_none(&self, limit: Duration) -> bool {
        let (children, _) = self
            .changed
            .wait_timeout_while(self.lock(), limit, |children| !children.none)
            .unwrap_or_else(|poisoned| poisoned.into_inner());
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
        let mut children = self
            .changed
            .wait_while(self.lock(), unknown)
            .unwrap_or_else(|poisoned| poisoned.into_inner());
        let Some(end) = collect_status(pid) else { return };
        if let Some(ending) = children.awaited.remove(&pid) {
            let _ = ending.end.set((end, Instant::now()));
            let _ = ending.event.write(1);
        }
    }

    fn sleep_until_adoption(&self) {
        let mut children = self.lock();
        while children.awaited.is_empty() {
            if !children.none && children.starting == 0 {
                children.none = true;
                self.changed.notify_all();
            }
            children = self.changed.wait(children).unwrap_or_else(|poisoned| poisoned.into_inner());
        }
    }

    fn lock(&self) -> MutexGuard<'_, Children> {
        self.children.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

/// Waits until some child is dead and says which, without collecting it: its pid must stay taken
/// until the lock is held. The C functions are called directly because nix fails, without saying
/// for which child, on one that a real-time signal killed.
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
