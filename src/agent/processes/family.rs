//! Signalling the descendants of a process, for where there is no cgroup.

use std::collections::{HashMap, HashSet};

use crate::sys::process::{self, PidFd, ProcessStat, Signal};

/// All processes that this user may look at.
fn all() -> Vec<ProcessStat> {
    let read = |pid| ProcessStat::read(pid).ok().flatten();
    process::pids().unwrap_or_default().into_iter().filter_map(read).collect()
}

/// The live processes of `all` that are `roots` or their descendants, or, `with_sessions`, belong to the
/// sessions of `roots` or descend from such.
fn family(all: &[ProcessStat], roots: &HashSet<i32>, with_sessions: bool) -> Vec<ProcessStat> {
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
    all.iter()
        .filter(|process| members.contains(&process.pid) && !process.is_dead)
        .copied()
        .collect()
}

/// Kills `root`, all processes of its session, and all their descendants. First it stops them until no
/// new one appears, because a stopped process does not fork. Call it before `root` is collected, so that
/// its pid cannot belong to another process.
pub fn kill_family(root: i32) {
    let mut roots = HashSet::from([root]);
    let mut frozen: HashMap<(i32, u64), PidFd> = HashMap::new();
    // Each round finds processes forked during the one before; a fork bomb may need several.
    for _ in 0..100 {
        let mut found = false;
        for process in family(&all(), &roots, true) {
            let key = (process.pid, process.start_ticks);
            if frozen.contains_key(&key) {
                continue;
            }
            if let Ok(Some(handle)) = PidFd::open(process.pid, process.start_ticks) {
                let _ = handle.signal(Signal::SIGSTOP);
                // Its children must stay in the family even if it dies and they get another parent.
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
        let _ = handle.signal(Signal::SIGKILL);
    }
}

/// Sends `signal` to every descendant of this process.
pub fn signal_descendants(signal: Signal) {
    signal_those(signal, |_| true);
}

/// Sends SIGHUP to every descendant with a controlling terminal: interactive shells ignore SIGTERM.
pub fn hang_up_descendants() {
    signal_those(Signal::SIGHUP, |process| process.has_terminal);
}

fn signal_those(signal: Signal, which: impl Fn(&ProcessStat) -> bool) {
    let roots = HashSet::from([std::process::id() as i32]);
    for process in family(&all(), &roots, false) {
        if roots.contains(&process.pid) || !which(&process) {
            continue;
        }
        if let Ok(Some(handle)) = PidFd::open(process.pid, process.start_ticks) {
            let _ = handle.signal(signal);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process(pid: i32, parent: i32, session: i32) -> ProcessStat {
        let (has_terminal, start_ticks, is_dead) = (false, 1, false);
        ProcessStat { pid, parent, session, has_terminal, start_ticks, is_dead }
    }

    #[test]
    fn a_family_has_descendants_and_sessions_and_no_other_processes() {
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
