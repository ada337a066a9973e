//! Injects faults at single system calls of mayfly, with strace.

use std::collections::BTreeMap;
use std::fs;
use std::process::Command;

use super::ground::{Ended, Ground};
use super::support::skip::skipped;

/// A system call of a verb: its name and its occurrence, counted from 1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Point {
    pub call: String,
    pub occurrence: usize,
}

/// Whether strace is installed and can trace. Prints if not.
pub fn is_possible() -> bool {
    let possible = Command::new("strace")
        .args(["-qq", "-o", "/dev/null", "true"])
        .output()
        .is_ok_and(|output| output.status.success());
    if !possible {
        skipped("strace is not installed, or may not trace here");
    }
    possible
}

/// Runs a verb and lists its system calls among `calls`. Only the command's first thread is traced, not a VMM and its
/// launcher.
pub fn points(ground: &Ground, calls: &[&str], args: &[&str]) -> (Ended, Vec<Point>) {
    let log = ground.path("trace").display().to_string();
    let trace = format!("trace={}", calls.join(","));
    let ended = ground.end(
        &mut ground.behind(&["strace", "-qq", "-e", "signal=none", "-o", &log, "-e", &trace], args),
    );
    let text = fs::read_to_string(&log).unwrap();
    let mut counts = BTreeMap::<&str, usize>::new();
    let mut points = Vec::new();
    for call in text.lines().filter_map(|line| line.split_once('(')).map(|(call, _)| call) {
        let count = counts.entry(call).or_default();
        *count += 1;
        points.push(Point { call: call.to_owned(), occurrence: *count });
    }
    (ended, points)
}

/// Runs a verb with a fault at one point, such as `signal=SIGKILL` or `error=ENOSPC`. strace ends as the command does,
/// even by the same signal.
pub fn inject(ground: &Ground, point: &Point, what: &str, args: &[&str]) -> Ended {
    ground.end(&mut injected(ground, point, what, args))
}

/// The command that `inject` runs.
pub fn injected(ground: &Ground, point: &Point, what: &str, args: &[&str]) -> Command {
    let trace = format!("trace={}", point.call);
    let inject = format!("inject={}:{what}:when={}", point.call, point.occurrence);
    ground.behind(&["strace", "-qq", "-o", "/dev/null", "-e", &trace, "-e", &inject], args)
}
