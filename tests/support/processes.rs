//! Processes, from /proc.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

/// The deadline of everything that tests wait for. It is longer than mayfly's own for a boot (180 s under emulation),
/// so that mayfly's error is seen first. On an emulated host, freezing two VMs at the same time has taken a minute.
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

/// Whether a process exists and is no zombie.
#[must_use]
pub fn lives(pid: i32) -> bool {
    // The command's name may contain any bytes.
    fs::read(format!("/proc/{pid}/stat")).is_ok_and(|stat| {
        !String::from_utf8_lossy(&stat).rsplit_once(") ").unwrap().1.starts_with('Z')
    })
}

/// The processor time that a process has used, in clock ticks; `None` if it has ended.
#[must_use]
pub fn processor_time(pid: i32) -> Option<u64> {
    let stat = fs::read(format!("/proc/{pid}/stat")).ok()?;
    let stat = String::from_utf8_lossy(&stat).into_owned();
    let fields: Vec<&str> = stat.rsplit_once(") ")?.1.split(' ').collect();
    Some(fields[11..13].iter().map(|ticks| ticks.parse::<u64>().expect("a number")).sum())
}

/// A field of a process's `status`, trimmed.
#[track_caller]
pub fn status_field(pid: i32, field: &str) -> String {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("the process is there");
    let line = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
    line.unwrap_or_else(|| panic!("no {field} in {status}")).trim().to_owned()
}

/// The processes that carry the mark of a VM of this state directory, with their command lines.
#[must_use]
pub fn of_state(state: &Path) -> Vec<(i32, String)> {
    let mark = format!("MAYFLY_VM_DIR={}/vms/", state.display());
    with_environment(mark.as_bytes())
}

/// The processes with a variable `NAME=value` that starts with `wanted`, with their command lines.
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

/// The jailers and firecrackers, with the ids of their VMs. A jailed one has no variable with the mark of its VM.
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

/// A process's arguments, joined with blanks.
pub fn command_line(pid: i32) -> String {
    let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    String::from_utf8_lossy(&line).replace('\0', " ").trim_end().to_owned()
}
