//! Processes, read from /proc without the code under test.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, Instant};

use mayfly::model::{BootId, ProcessId};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// A living process that carries `MAYFLY_VM_DIR`.
#[derive(Debug, Clone)]
pub struct Marked {
    pub pid: i32,
    pub vm_dir: String,
    /// Its arguments.
    pub command: String,
}

/// The user of a process that is no VM, whatever its mark.
pub const NOBODY: u32 = 65_534;

/// The living processes that carry the mark of a VM of this state directory.
pub fn marked(state: &Path) -> Vec<Marked> {
    let wanted = format!("MAYFLY_VM_DIR={}/", state.join("vms").display());
    let pids = fs::read_dir("/proc").unwrap().flatten();
    let pids = pids.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    pids.filter_map(|pid| {
        if fs::metadata(format!("/proc/{pid}")).ok()?.uid() == NOBODY {
            return None;
        }
        let environment = fs::read(format!("/proc/{pid}/environ")).ok()?;
        let mark = environment
            .split(|&b| b == 0)
            .find(|variable| variable.starts_with(wanted.as_bytes()))?;
        let vm_dir = String::from_utf8_lossy(&mark["MAYFLY_VM_DIR=".len()..]).into_owned();
        let command = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let command = String::from_utf8_lossy(&command).replace('\0', " ");
        is_alive(pid).then_some(Marked { pid, vm_dir, command })
    })
    .collect()
}

/// The fields of `/proc/PID/stat`, starting with the state.
fn stat(pid: i32) -> Option<Vec<String>> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, rest) = text.rsplit_once(") ")?;
    Some(rest.split_whitespace().map(str::to_owned).collect())
}

/// Whether it exists and is no zombie.
pub fn is_alive(pid: i32) -> bool {
    stat(pid).is_some_and(|fields| !matches!(fields[0].as_str(), "Z" | "X"))
}

/// Whether a process has children that are alive.
pub fn has_children(parent: i32) -> bool {
    let pids = fs::read_dir("/proc").unwrap().flatten();
    let mut pids = pids.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    pids.any(|pid| stat(pid).is_some_and(|fields| fields[1] == parent.to_string()) && is_alive(pid))
}

/// The identity of a living process, as the registry writes it.
pub fn identity(pid: i32) -> ProcessId {
    let boot_id = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
    let start_ticks = stat(pid).expect("the process lives")[19].parse().unwrap();
    ProcessId { pid, start_ticks, boot_id: BootId(boot_id.trim().to_owned()), place: None }
}

/// Kills a process that this test started through mayfly, and waits until it is dead.
pub fn end(pid: i32) {
    signal(pid, Signal::SIGKILL);
    while is_alive(pid) {
        std::thread::yield_now();
    }
}

/// Stops a process that this test started through mayfly, and waits until it is stopped.
pub fn freeze(pid: i32) {
    signal(pid, Signal::SIGSTOP);
    while stat(pid).is_some_and(|fields| !matches!(fields[0].as_str(), "T" | "Z" | "X")) {
        std::thread::yield_now();
    }
}

/// Signals a process that this test started, directly or through mayfly.
pub fn signal(pid: i32, signal: Signal) {
    assert!(pid > 1);
    let _ = kill(Pid::from_raw(pid), signal);
}

/// Waits until `look` finds something.
pub fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "{what} does not come about");
        std::thread::sleep(Duration::from_millis(1));
    }
}
