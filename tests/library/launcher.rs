//! The launcher that becomes a VMM, with orders of these tests.

use std::fs;
use std::path::PathBuf;

use assert_cmd::Command;
use mayfly::host::launcher::{BindAccess, BindMount, LaunchBounds, LaunchProgram};
use nix::unistd::geteuid;

use crate::support::skip::skipped;

/// The output of a line of shell that the launcher runs.
fn becomes(line: &str, bounds: LaunchBounds) -> String {
    let program = LaunchProgram {
        path: "/bin/sh".into(),
        args: vec!["-c".into(), line.into()],
        env: vec![("PATH".into(), "/usr/bin:/bin".into())],
        cwd: "/".into(),
        user: None,
        files: Vec::new(),
        bounds,
    };
    let mut order = serde_json::to_vec(&program).unwrap();
    order.push(b'\n');
    let output =
        Command::cargo_bin("mayfly").unwrap().arg("__launcher").write_stdin(order).unwrap();
    String::from_utf8(output.stdout).unwrap() + &String::from_utf8_lossy(&output.stderr)
}

#[test]
fn files_are_limited_without_killing_the_writer() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    let bounds = LaunchBounds { file_size: Some(4096), ..LaunchBounds::default() };
    let line = format!(
        "dd if=/dev/zero of={0} bs=1000 count=9 2>&1 | grep -o 'File too large'; stat -c %s {0}",
        file.display()
    );
    assert_eq!(becomes(&line, bounds), "File too large\n4096\n");
}

#[test]
fn open_files_are_limited() {
    let bounds = LaunchBounds { open_files: Some(77), ..LaunchBounds::default() };
    assert_eq!(becomes("ulimit -n; ulimit -Hn; ulimit -c", bounds), "77\n77\n0\n");
}

#[test]
fn only_that_signal_is_blocked() {
    let blocked = |bounds| becomes("grep SigBlk /proc/$$/status | cut -f 2", bounds);
    assert_eq!(blocked(LaunchBounds::default()), "0000000000000000\n");
    let bounds = LaunchBounds { file_size: Some(4096), ..LaunchBounds::default() };
    assert_eq!(blocked(bounds), "0000000001000000\n");
}

#[test]
fn mounts_are_private() {
    if !geteuid().is_root() {
        return skipped("only root can make mounts");
    }
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| -> PathBuf {
        let path = dir.path().join(name);
        fs::write(&path, text).unwrap();
        path
    };
    let bind = |name: &str, access| BindMount {
        file: file(name, name),
        at: file(&format!("{name}-place"), "empty"),
        access,
    };
    let binds = vec![bind("read", BindAccess::Read), bind("write", BindAccess::Write)];
    let read = binds[0].at.display().to_string();
    let write = binds[1].at.display().to_string();
    let bounds = LaunchBounds { no_network: true, binds, ..LaunchBounds::default() };
    let line = format!(
        "cat {read} {write}; echo; (echo x > {read}) 2>&1 | grep -o 'Read-only file system'; \
         echo changed > {write}; ls /sys/class/net > /dev/null; grep -c : /proc/net/dev; \
         grep {write} /proc/mounts | grep -o nosuid,nodev,noexec"
    );
    let said = becomes(&line, bounds);
    assert_eq!(said, "readwrite\nRead-only file system\n1\nnosuid,nodev,noexec\n");
    let text = |name: &str| fs::read_to_string(dir.path().join(name)).unwrap();
    assert_eq!((text("read").as_str(), text("write").as_str()), ("read", "changed\n"));
    assert_eq!((text("read-place").as_str(), text("write-place").as_str()), ("empty", "empty"));
    let mounts = fs::read_to_string("/proc/mounts").unwrap();
    assert!(!mounts.contains(dir.path().to_str().unwrap()), "{mounts}");
}

#[test]
fn a_truncated_order_is_not_executed() {
    let mut launcher = Command::cargo_bin("mayfly").unwrap();
    let output = launcher.arg("__launcher").write_stdin("{\"path\":\"/bin/echo\"").unwrap();
    assert!(output.stdout.is_empty() && output.stderr.is_empty());
}
