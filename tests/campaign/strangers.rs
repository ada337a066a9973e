//! Other processes with the pid of a VMM or a network helper: mayfly must not signal them.

use std::fs;
use std::process::Child;
use std::sync::mpsc;

use mayfly::model::{BootId, ProcessId, VmId};
use nix::unistd::gettid;

use super::canaries::canary;
use super::ground::Ground;
use super::procfs;
use super::support::skip::skipped;

/// Kills a VMM and records the identity of another process in its place, and in that of a network helper.
fn forge(ground: &Ground, id: &str, phase: &str, process: &ProcessId) {
    procfs::end(ground.vmm(id).unwrap());
    let mut contents = serde_json::to_value(ground.registry()).unwrap();
    let instance = serde_json::json!({ "process": process, "network": { "process": process } });
    let mut state = serde_json::json!({ "phase": phase, "instance": instance });
    if phase == "removing" {
        state["reason"] = "explicit_delete".into();
    }
    contents["vms"][id]["state"] = state;
    // The last schema without a seal.
    contents["schema"] = 2.into();
    fs::write(ground.state.join("registry.json"), contents.to_string()).unwrap();
}

/// Every verb, in every phase that names a process.
fn nothing_happens_to(ground: &Ground, process: &ProcessId, still_well: impl Fn() -> bool) {
    for phase in ["starting", "started", "stopping", "removing"] {
        for verb in ["start", "exec", "stop", "rm", "reap"] {
            let id = ground.started();
            forge(ground, &id, phase, process);
            let gone = phase == "removing" || verb == "rm";
            let ended = match verb {
                "exec" => ground.run(&["exec", "--keep", &id, "--", "true"]),
                "reap" => ground.run(&["reap"]),
                _ => ground.run(&[verb, &id]),
            };
            let expected = match (verb, phase) {
                ("exec", _) => 125,
                // The command that gets the lock first finishes the removal and reports the VM as missing.
                ("start" | "stop", "removing") => 3,
                _ => 0,
            };
            assert_eq!(ended.code, Some(expected), "{phase}: {ended:#?}");
            if gone {
                ground.ledger.deleted(&id);
            }
            ground.check(&format!("{verb} of a forged {phase}"));
            assert!(still_well(), "{verb} of a forged {phase} record signalled a stranger");
            if !gone {
                ground.ok(&["rm", &id]);
                ground.ledger.deleted(&id);
            }
        }
    }
}

struct Stranger(Child);

impl Drop for Stranger {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_process_that_started_at_another_time() {
    let ground = Ground::new();
    let stranger = Stranger(canary(&[]));
    let pid = stranger.0.id() as i32;
    let mut process = procfs::identity(pid);
    process.start_ticks -= 1;
    nothing_happens_to(&ground, &process, || procfs::is_alive(pid));
}

#[test]
fn a_process_of_another_boot() {
    let ground = Ground::new();
    let stranger = Stranger(canary(&[]));
    let pid = stranger.0.id() as i32;
    let boot_id = BootId("00000000-0000-0000-0000-000000000000".into());
    let process = ProcessId { boot_id, ..procfs::identity(pid) };
    nothing_happens_to(&ground, &process, || procfs::is_alive(pid));
}

/// Threads get their ids from the same pool as processes, and have entries in /proc.
#[test]
fn a_thread() {
    let ground = Ground::new();
    let (number, its_number) = mpsc::channel();
    let (leave, wait) = mpsc::channel::<()>();
    let thread = std::thread::spawn(move || {
        number.send(gettid().as_raw()).unwrap();
        let _ = wait.recv();
    });
    let mut process = procfs::identity(its_number.recv().unwrap());
    process.start_ticks -= 1;
    nothing_happens_to(&ground, &process, || true);
    drop(leave);
    thread.join().unwrap();
}

#[test]
fn numbers_that_are_no_pid() {
    let ground = Ground::new();
    for pid in [0, -1, i32::MIN, i32::MAX] {
        let process = ProcessId { pid, ..procfs::identity(std::process::id() as i32) };
        let id = ground.started();
        forge(&ground, &id, "started", &process);
        ground.ok(&["stop", &id]);
        ground.check(&format!("pid {pid}"));
        assert!(ground.registry().vms.contains_key(&id.parse::<VmId>().unwrap()));
    }
}

/// A reused pid. This needs a pid namespace.
#[test]
fn a_pid_that_was_given_again() {
    let ground = Ground::new();
    const SCRIPT: &str = r#"
        set -eu
        vm=$("$0" create)
        "$0" start "$vm"
        pid=$(sed -n 's/.*"pid":\([0-9]*\).*/\1/p' "$MAYFLY_STATE_DIR/registry.json")
        kill -9 "$pid"
        while [ -d "/proc/$pid" ]; do :; done
        # The kernel counts start times in hundredths of a second: within one, a pid that is forced to
        # come again is the same process to everybody.
        read -r began _ < /proc/uptime
        while read -r now _ < /proc/uptime && [ "$now" = "$began" ]; do :; done
        echo $((pid - 1)) > /proc/sys/kernel/ns_last_pid
        sleep 1000000 &
        test "$!" = "$pid"
        "$0" status --json "$vm" | grep -q 'ended by itself'
        "$0" stop "$vm"
        "$0" rm "$vm"
        "$0" reap
        kill -0 "$pid"
        echo unharmed
    "#;
    let wrapper =
        ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc", "sh", "-c", SCRIPT];
    let ended = ground.end(&mut ground.behind(&wrapper, &[]));
    if ended.stderr.contains("unshare failed") || ended.stderr.contains("ns_last_pid") {
        return skipped(&format!("no pid namespace can be had: {}", ended.stderr.trim()));
    }
    assert!(ended.stdout.ends_with("unharmed\n"), "{ended:#?}");
    ground.check("a pid that was given again");
}
