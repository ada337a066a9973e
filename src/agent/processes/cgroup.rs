//! A cgroup for each command: it kills everything the command started, and limits how many processes
//! commands can have.

use std::fs::{self, File};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Processes and threads reserved for the agent and the kernel.
const SPARE_TASKS: u64 = 256;

/// Creates the cgroups of commands.
#[derive(Debug)]
pub struct CgroupRoot {
    root: PathBuf,
    /// How many processes and threads a command can have.
    tasks_per_command: Option<u64>,
    counts: Arc<Mutex<Counts>>,
    /// Created in advance.
    spare: Mutex<Option<Created>>,
}

/// A cgroup and its directory.
type Created = (CommandCgroup, OwnedFd);

#[derive(Debug, Default)]
struct Counts {
    /// How many were created.
    created: u64,
    /// Those whose command has ended while other processes were still in them.
    left: Vec<PathBuf>,
}

/// One command's cgroup.
#[derive(Debug)]
pub struct CommandCgroup {
    path: PathBuf,
    counts: Arc<Mutex<Counts>>,
}

impl CgroupRoot {
    /// Creates `mayfly` under a cgroup2 mount, with a limit on tasks. `None` if that is not possible:
    /// commands are then killed as process families.
    pub fn prepare(mount: &Path) -> Option<CgroupRoot> {
        // Without controllers, cgroups can still be killed.
        enable(mount, &["+pids", "+memory", "+cpu"]);
        let root = mount.join("mayfly");
        fs::create_dir_all(&root).ok()?;
        // One command with thousands of processes gets no more CPU time than the agent, or than another command.
        enable(&root, &["+pids", "+cpu"]);
        let tasks_per_command = task_limit().map(|limit| {
            let _ = fs::write(root.join("pids.max"), limit.to_string());
            // One command leaves others what they need.
            limit / 2
        });
        Some(CgroupRoot {
            root,
            tasks_per_command,
            counts: Arc::default(),
            spare: Mutex::default(),
        })
    }

    /// A new cgroup, or the spare one.
    ///
    /// # Errors
    /// The kernel's.
    pub fn create(&self) -> std::io::Result<Created> {
        let spare = lock(&self.spare).take();
        spare.map_or_else(|| self.create_now(), Ok)
    }

    /// Creates the next one in advance, so that a command need not wait for it.
    pub fn create_spare(&self) {
        let mut spare = lock(&self.spare);
        if spare.is_none() {
            *spare = self.create_now().ok();
        }
    }

    fn create_now(&self) -> std::io::Result<Created> {
        let number = {
            let mut counts = lock(&self.counts);
            counts.left.retain(|path| fs::remove_dir(path).is_err());
            counts.created += 1;
            counts.created
        };
        let path = self.root.join(number.to_string());
        fs::create_dir(&path)?;
        if let Some(limit) = self.tasks_per_command {
            let _ = fs::write(path.join("pids.max"), limit.to_string());
        }
        let directory = File::open(&path)?;
        Ok((CommandCgroup { path, counts: Arc::clone(&self.counts) }, directory.into()))
    }

    /// Kills everything in all cgroups of commands.
    pub fn kill_all(&self) {
        let _ = fs::write(self.root.join("cgroup.kill"), "1");
    }
}

impl CommandCgroup {
    /// Kills everything in it at once, even a fork bomb. `false` if the kernel cannot (before 5.14).
    pub fn kill(&self) -> bool {
        fs::write(self.path.join("cgroup.kill"), "1").is_ok()
    }
}

impl Drop for CommandCgroup {
    /// Removes the cgroup. The kernel refuses while a process is in it, so it is tried again later.
    fn drop(&mut self) {
        if fs::remove_dir(&self.path).is_err() {
            lock(&self.counts).left.push(std::mem::take(&mut self.path));
        }
    }
}

/// Lets the cgroups below this one have controllers, as far as the kernel has them.
fn enable(cgroup: &Path, controllers: &[&str]) {
    for controller in controllers {
        let _ = fs::write(cgroup.join("cgroup.subtree_control"), controller);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The kernel's own limit, less what is reserved.
fn task_limit() -> Option<u64> {
    let read = |path: &str| fs::read_to_string(path).ok()?.trim().parse::<u64>().ok();
    let kernel = read("/proc/sys/kernel/pid_max")?.min(read("/proc/sys/kernel/threads-max")?);
    Some(kernel.saturating_sub(SPARE_TASKS).max(64))
}
