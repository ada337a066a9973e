//! Processes as /proc shows them.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

/// Long enough for a loaded machine, and one that is emulated: there, two VMs that are frozen at the
/// same time have taken a minute. Longer than the longest boot may take (180 s under emulation), so that
/// mayfly's own error is seen first. Nothing waits this long when all is well.
pub const PATIENCE: Duration = Duration::from_secs(200);

/// Waits until `condition` holds.
#[track_caller]
pub fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "this does not come about: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Whether a process is there and not a zombie.
#[must_use]
pub fn lives(pid: i32) -> bool {
    // The command's name in it may be any bytes.
    fs::read(format!("/proc/{pid}/stat")).is_ok_and(|stat| {
        !String::from_utf8_lossy(&stat).rsplit_once(") ").unwrap().1.starts_with('Z')
    })
}

/// A field of a process's `status`, without the blanks around it.
#[track_caller]
pub fn status_field(pid: i32, field: &str) -> String {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("the process is there");
    let line = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
    line.unwrap_or_else(|| panic!("no {field} in {status}")).trim().to_owned()
}

/// The living processes that carry the mark of a VM below `state`, each with its command line.
#[must_use]
pub fn of_state(state: &Path) -> Vec<(i32, String)> {
    let mark = format!("MAYFLY_VM_DIR={}/vms/", state.display());
    with_environment(mark.as_bytes())
}

/// The living processes with a variable that starts with `wanted`.
pub fn with_environment(wanted: &[u8]) -> Vec<(i32, String)> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").expect("/proc can be read").flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        let environment = fs::read(entry.path().join("environ")).unwrap_or_default();
        if environment.split(|&b| b == 0).any(|variable| variable.starts_with(wanted)) {
            found.push((pid, command_line(pid)));
        }
    }
    found
}

/// Living jailers and firecrackers, each with the VM it is for. A jailed one has no environment that
/// could tell.
pub fn firecrackers() -> Vec<(i32, String)> {
    let entries = fs::read_dir("/proc").expect("/proc can be read").flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter_map(|pid| {
        let line = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
        let words: Vec<&str> =
            line.split(|&b| b == 0).filter_map(|w| str::from_utf8(w).ok()).collect();
        let program = words.first()?.rsplit('/').next()?;
        let id = words.iter().position(|word| *word == "--id").and_then(|at| words.get(at + 1))?;
        ["firecracker", "jailer"].contains(&program).then(|| (pid, (*id).to_owned()))
    })
    .collect()
}

/// A process's arguments, joined by blanks.
pub fn command_line(pid: i32) -> String {
    let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    String::from_utf8_lossy(&line).replace('\0', " ").trim_end().to_owned()
}
