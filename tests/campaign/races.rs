//! Two commands on one VM that should both succeed.

use std::time::Duration;

use nix::sys::signal::Signal;

use super::chance::{Chance, share_of};
use super::ground::Ground;
use super::procfs::{self, eventually};
use super::trace::{self, Point};

/// `rm` and the deletion after an `exec` both delete the VM.
#[test]
fn a_command_that_succeeded_is_a_success_even_if_its_vm_is_deleted() {
    let mut chance = Chance::new("rm and exec");
    let ground = Ground::new();
    for _ in 0..share_of(60) {
        let id = ground.started();
        let words = ["exec", &id, "--", "sh", "-c", "echo whole"];
        let exec = ground.begin(&mut ground.mayfly(&words));
        std::thread::sleep(chance.pause(Duration::from_millis(80)));
        let removed = ground.run(&["rm", "-f", &id]);
        assert_eq!(removed.code, Some(0), "{removed:#?}");
        ground.ledger.deleted(&id);
        let ended = exec.end();
        match ended.stdout.as_str() {
            // The command may be lost with the VM; else its answer is complete.
            "whole\n" if ended.code == Some(125) => {
                assert!(!ended.stderr.contains("does not exist"), "{ended:#?}");
            }
            "whole\n" => assert_eq!(ended.code, Some(0), "{ended:#?}"),
            _ => assert_eq!(ended.code, Some(125), "{ended:#?}"),
        }
    }
    ground.check("rm and exec");
}

/// An `rm` between the end of a command and the deletion after it.
#[test]
fn a_vm_deleted_between_a_command_and_its_cleanup() {
    if !trace::is_possible() {
        return;
    }
    let ground = Ground::new();
    let id = ground.started();
    let words = ["exec", "--json", &id, "--", "touch", "done"];
    // The first lock is the port's.
    let second = Point { call: "flock".into(), occurrence: 2 };
    let exec = ground.begin(&mut trace::injected(&ground, &second, "delay_enter=1500000", &words));
    let done = ground.state.join("vms").join(&id).join("work/done");
    eventually("the command", || done.exists().then_some(()));
    // Time for the rest of the answer. A lost answer would be a 125 below.
    std::thread::sleep(Duration::from_millis(300));
    ground.ok(&["rm", &id]);
    ground.ledger.deleted(&id);
    let ended = exec.end();
    assert_eq!(ended.code, Some(0), "{ended:#?}");
    assert!(ended.stdout.contains(r#""deleted":false,"reason":"absent""#), "{ended:#?}");
    ground.check("a VM deleted before its cleanup");
}

/// A sweep that sees a new VM's lock file before the `create` has locked it.
#[test]
fn a_create_whose_lock_a_sweep_takes_first() {
    if !trace::is_possible() {
        return;
    }
    let ground = Ground::new();
    ground.ok(&["reap"]);
    let lock = Point { call: "flock".into(), occurrence: 1 };
    let create =
        ground.begin(&mut trace::injected(&ground, &lock, "delay_enter=1000000", &["create"]));
    let locks = ground.state.join("locks");
    eventually("the lock file", || locks.read_dir().unwrap().next().map(drop));
    let unlink = Point { call: "unlink".into(), occurrence: 1 };
    let reap =
        ground.begin(&mut trace::injected(&ground, &unlink, "delay_enter=2000000", &["reap"]));
    let created = create.end();
    assert_eq!(created.code, Some(0), "{created:#?}");
    ground.ledger.created(created.stdout.trim());
    assert_eq!(reap.end().code, Some(0));
    ground.check("a sweep that was first");
}

/// Only VMs that were acknowledged count against the limit.
#[test]
fn killed_commands_do_not_count_against_the_limit() {
    let mut ground = Ground::new();
    ground.set("MAYFLY_MAX_ACTIVE_VMS", "1");
    let mut run = ground.begin(&mut ground.mayfly(&["run", "--", "sleep", "1000"]));
    eventually("a started VM", || {
        let vms = ground.registry().vms;
        vms.into_values().find(|record| record.state.name() == "started")
    });
    run.child.kill().unwrap();
    let _ = run.end();
    let id = ground.created();
    ground.ok(&["rm", &id]);
    ground.ledger.deleted(&id);
    if trace::is_possible() {
        let mkdir = Point { call: "mkdir".into(), occurrence: 1 };
        let killed = trace::inject(&ground, &mkdir, "signal=SIGKILL", &["create"]);
        assert_eq!(killed.signal, Some(9), "{killed:#?}");
        assert_eq!(ground.registry().vms.len(), 1);
        ground.created();
    }
    ground.check("killed creates");
}

/// The wait for a hanging command has an end, and the error names the command.
#[test]
fn waiting_for_a_hanging_command_names_it() {
    let ground = Ground::new();
    let id = ground.started();
    procfs::signal(ground.vmm(&id).unwrap(), Signal::SIGSTOP);
    let mut stop = ground.begin(&mut ground.mayfly(&["stop", "--grace", "60s", &id]));
    // The stop talks to the agent, so it does not hold the registry any more.
    let port = ground.run_dirs()[0].join(&id).join("port.0.lock");
    eventually("stopping", || (port.metadata().unwrap().len() > 0).then_some(()));
    procfs::signal(stop.child.id() as i32, Signal::SIGSTOP);
    let refused = ground.run(&["rm", &id]);
    assert_eq!(refused.code, Some(5), "{refused:#?}");
    assert!(refused.stderr.contains(&format!("process {}", stop.child.id())), "{refused:#?}");
    // `reap` skips a busy VM.
    assert_eq!(ground.ok(&["reap"]), "");
    ground.ok(&["create"]);
    stop.child.kill().unwrap();
    let _ = stop.end();
    ground.ok(&["rm", &id]);
    ground.ledger.deleted(&id);
    ground.check("a hanging stop");
}

/// `reap` must not sweep up what a `create` is about to use.
#[test]
fn creating_while_others_sweep() {
    let ground = Ground::new();
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                for _ in 0..share_of(150) {
                    let reaped = ground.run(&["reap"]);
                    assert_eq!(reaped.code, Some(0), "{reaped:#?}");
                }
            });
        }
        for _ in 0..2 {
            scope.spawn(|| {
                for _ in 0..share_of(100) {
                    let id = ground.started();
                    ground.ok(&["rm", &id]);
                    ground.ledger.deleted(&id);
                }
            });
        }
    });
    ground.check("sweeping while creating");
}

/// The last VM's deletion removes the runtime directory, which must not disturb the next start.
#[test]
fn the_runtime_directory_can_vanish_during_a_start() {
    let ground = Ground::new();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..share_of(60) {
                    assert_eq!(ground.ok(&["run", "--", "echo", "whole"]), "whole");
                }
            });
        }
    });
    ground.check("runs beside runs");
}
