//! A cgroup for each command, so that all it started dies with it and none of it can take the
//! agent's processes.

use std::fs::{self, OpenOptions};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Processes and threads that commands leave to the agent and the kernel.
const SPARE_TASKS: u64 = 256;

/// Where the commands' cgroups are made.
#[derive(Debug)]
pub struct CgroupRoot {
    root: PathBuf,
    book: Arc<Mutex<Book>>,
    /// One that was made when there was time for it.
    spare: Mutex<Option<Made>>,
}

/// A cgroup, and what a process writes `0` to in order to join it.
type Made = (CommandCgroup, OwnedFd);

#[derive(Debug, Default)]
struct Book {
    /// How many were made.
    made: u64,
    /// Those that nobody looks after any more but that a daemon may still live in.
    left: Vec<PathBuf>,
}

/// One command's cgroup.
#[derive(Debug)]
pub struct CommandCgroup {
    path: PathBuf,
    book: Arc<Mutex<Book>>,
}

impl CgroupRoot {
    /// Prepares `mayfly` under a cgroup2 mount, with a limit on tasks that leaves some to the rest.
    /// `None` where that is not possible: commands then are killed as process families.
    pub fn prepare(mount: &Path) -> Option<CgroupRoot> {
        // Controllers are optional: without them the groups still can be killed as one.
        let controllers = mount.join("cgroup.subtree_control");
        let _ = fs::write(&controllers, "+pids");
        let _ = fs::write(&controllers, "+memory");
        let root = mount.join("mayfly");
        fs::create_dir_all(&root).ok()?;
        if let Some(limit) = task_limit() {
            let _ = fs::write(root.join("pids.max"), limit.to_string());
        }
        Some(CgroupRoot { root, book: Arc::default(), spare: Mutex::default() })
    }

    /// A new cgroup: the spare one, if there is one.
    ///
    /// # Errors
    /// Where the kernel makes no more.
    pub fn create(&self) -> std::io::Result<Made> {
        match self.spare().take() {
            Some(made) => Ok(made),
            None => self.make(),
        }
    }

    /// Makes the next one beforehand, so that a command need not wait for it.
    pub fn provide_spare(&self) {
        let mut spare = self.spare();
        if spare.is_none() {
            *spare = self.make().ok();
        }
    }

    fn spare(&self) -> MutexGuard<'_, Option<Made>> {
        self.spare.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn make(&self) -> std::io::Result<Made> {
        let number = {
            let mut book = self.book.lock().unwrap_or_else(PoisonError::into_inner);
            book.left.retain(|path| fs::remove_dir(path).is_err());
            book.made += 1;
            book.made
        };
        let path = self.root.join(number.to_string());
        fs::create_dir(&path)?;
        let procs = OpenOptions::new().write(true).open(path.join("cgroup.procs"))?;
        Ok((CommandCgroup { path, book: Arc::clone(&self.book) }, procs.into()))
    }

    /// Kills everything in all of them.
    pub fn kill_all(&self) {
        let _ = fs::write(self.root.join("cgroup.kill"), "1");
    }
}

impl CommandCgroup {
    /// Kills everything in it at once, a fork bomb included. `false` where the kernel cannot
    /// (before 5.14).
    pub fn kill(&self) -> bool {
        fs::write(self.path.join("cgroup.kill"), "1").is_ok()
    }
}

impl Drop for CommandCgroup {
    /// The kernel refuses while a process is in it; then it is tried again later.
    fn drop(&mut self) {
        if fs::remove_dir(&self.path).is_err() {
            let mut book = self.book.lock().unwrap_or_else(PoisonError::into_inner);
            book.left.push(std::mem::take(&mut self.path));
        }
    }
}

/// The kernel's own limits, less what must be left.
fn task_limit() -> Option<u64> {
    let read = |path: &str| fs::read_to_string(path).ok()?.trim().parse::<u64>().ok();
    let kernel = read("/proc/sys/kernel/pid_max")?.min(read("/proc/sys/kernel/threads-max")?);
    Some(kernel.saturating_sub(SPARE_TASKS).max(64))
}
