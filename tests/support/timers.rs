//! Timers of a process, from /proc.

use std::fs;

/// The seconds left on the only timer that is set in this `fdinfo`.
#[track_caller]
pub fn timer(fdinfo: &str) -> f64 {
    let values = fdinfo.lines().filter_map(|line| line.strip_prefix("it_value: ("));
    let seconds = values.filter_map(|value| {
        let (whole, nanos) = value.trim_end_matches(')').split_once(", ")?;
        Some(whole.parse::<f64>().ok()? + nanos.parse::<f64>().ok()? / 1e9)
    });
    let set: Vec<f64> = seconds.filter(|seconds| *seconds > 0.0).collect();
    assert_eq!(set.len(), 1, "{fdinfo}");
    set[0]
}

/// The `fdinfo` of all files that a process has open.
pub fn fdinfo(pid: i32) -> String {
    let files = fs::read_dir(format!("/proc/{pid}/fdinfo")).into_iter().flatten().flatten();
    files.filter_map(|file| fs::read_to_string(file.path()).ok()).collect()
}
