//! Processes as /proc shows them, and ending a family of them where there is no cgroup to do it.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use nix::libc;

/// One process at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProcessSnapshot {
    pub pid: i32,
    pub parent: i32,
    pub session: i32,
    /// Clock ticks since boot; with the pid it names a process for good.
    pub started: u64,
    pub dead: bool,
    /// Whether a terminal controls it.
    pub at_terminal: bool,
}

/// All processes.
pub fn all() -> Vec<ProcessSnapshot> {
    let Ok(entries) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter_map(one)
        .collect()
}

fn one(pid: i32) -> Option<ProcessSnapshot> {
    parse(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// Reads a `stat` line; the command's name in it may contain anything, parentheses and blanks
/// included, so what follows the last parenthesis counts.
fn parse(stat: &str) -> Option<ProcessSnapshot> {
    let pid = stat.split_once(' ')?.0.parse().ok()?;
    let fields: Vec<&str> = stat.rsplit_once(") ")?.1.split(' ').collect();
    Some(ProcessSnapshot {
        pid,
        dead: matches!(*fields.first()?, "Z" | "X"),
        parent: fields.get(1)?.parse().ok()?,
        session: fields.get(3)?.parse().ok()?,
        at_terminal: *fields.get(4)? != "0",
        started: fields.get(19)?.parse().ok()?,
    })
}

/// The members of `all` that are `roots`, or of their sessions, or descend from such, and live.
fn family(
    all: &[ProcessSnapshot],
    roots: &HashSet<i32>,
    with_sessions: bool,
) -> Vec<ProcessSnapshot> {
    let mut members: HashSet<i32> = roots.clone();
    loop {
        let before = members.len();
        for process in all {
            if members.contains(&process.parent)
                || (with_sessions && roots.contains(&process.session))
            {
                members.insert(process.pid);
            }
        }
        if members.len() == before {
            break;
        }
    }
    all.iter().filter(|process| members.contains(&process.pid) && !process.dead).copied().collect()
}

/// Kills `root`, all processes of its session, and all their descendants. They are stopped first
/// until no new one appears, because a stopped process does not fork. Call it while `root` has not
/// been waited for, so that its number is its own.
pub fn kill_family(root: i32) {
    let mut roots = HashSet::from([root]);
    let mut frozen: HashMap<(i32, u64), OwnedFd> = HashMap::new();
    // A round finds what was forked during the one before; a fork bomb may need several.
    for _ in 0..100 {
        let mut found = false;
        for process in family(&all(), &roots, true) {
            let key = (process.pid, process.started);
            if frozen.contains_key(&key) {
                continue;
            }
            if let Some(handle) = hold(process) {
                signal(&handle, libc::SIGSTOP);
                // Its children stay in the family when it dies and they get another parent.
                roots.insert(process.pid);
                frozen.insert(key, handle);
                found = true;
            }
        }
        if !found {
            break;
        }
    }
    for handle in frozen.values() {
        signal(handle, libc::SIGKILL);
    }
}

/// Sends `number` to every descendant of this process.
pub fn signal_descendants(number: i32) {
    signal_those(number, |_| true);
}

/// Hangs up on every descendant that a terminal controls: shells that somebody types into ignore
/// SIGTERM.
pub fn hang_up_descendants() {
    signal_those(libc::SIGHUP, |process| process.at_terminal);
}

fn signal_those(number: i32, which: impl Fn(&ProcessSnapshot) -> bool) {
    let roots = HashSet::from([std::process::id() as i32]);
    for process in family(&all(), &roots, false) {
        if roots.contains(&process.pid) || !which(&process) {
            continue;
        }
        if let Some(handle) = hold(process) {
            signal(&handle, number);
        }
    }
}

/// A handle on this very process; `None` when the number meanwhile belongs to nobody or another.
fn hold(process: ProcessSnapshot) -> Option<OwnedFd> {
    // SAFETY: pidfd_open takes two integers and returns a new descriptor or -1.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, process.pid, 0) };
    if fd < 0 {
        return None;
    }
    // SAFETY: the descriptor is new and nobody else's.
    let handle = unsafe { OwnedFd::from_raw_fd(fd as i32) };
    let now = one(process.pid)?;
    (now.started == process.started && !now.dead).then_some(handle)
}

fn signal(handle: &OwnedFd, number: i32) {
    // SAFETY: the descriptor is a pidfd; no information is passed. A process that is gone is an
    // error that changes nothing.
    unsafe {
        libc::syscall(
            libc::SYS_pidfd_send_signal,
            handle.as_raw_fd(),
            number,
            std::ptr::null::<libc::siginfo_t>(),
            0,
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process(pid: i32, parent: i32, session: i32) -> ProcessSnapshot {
        ProcessSnapshot { pid, parent, session, started: 1, dead: false, at_terminal: false }
    }

    #[test]
    fn a_name_with_parentheses_does_not_confuse() {
        let stat = "71 (a) R 9 (b c) S 70 71 60 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 4711 1 2";
        assert_eq!(
            parse(stat),
            Some(ProcessSnapshot {
                pid: 71,
                parent: 70,
                session: 60,
                started: 4711,
                dead: false,
                at_terminal: false
            })
        );
        assert!(parse(&stat.replace("60 0 -1", "60 34816 71")).unwrap().at_terminal);
        assert_eq!(parse("71 (gone"), None);
    }

    #[test]
    fn a_family_has_descendants_and_sessions_but_no_strangers() {
        let all = [
            process(40, 1, 40),
            process(12, 11, 12),
            process(10, 1, 10),
            process(11, 10, 10),
            process(13, 1, 10),
            process(14, 12, 14),
        ];
        let mut pids: Vec<i32> =
            family(&all, &HashSet::from([10]), true).iter().map(|p| p.pid).collect();
        pids.sort_unstable();
        assert_eq!(pids, [10, 11, 12, 13, 14]);
    }
}
