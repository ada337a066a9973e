//! The death of a VMM, or of a command that uses it, in each state of a VM.

use std::time::Duration;

use nix::sys::signal::Signal;

use super::ground::{Begun, Ground};
use super::procfs::{self, Marked, eventually};
use super::trace::{self, Point};

/// Begins a `start` and freezes its launcher after it was recorded and released, before it becomes the agent. So the
/// start waits for an answer.
fn freeze_a_start(ground: &Ground) -> (String, Begun, Marked) {
    eventually("a start that is caught", || {
        let id = ground.created();
        let start = ground.begin(&mut ground.mayfly(&["start", &id]));
        let child = eventually("the VM's process", || procfs::marked(&ground.state).pop());
        procfs::freeze(child.pid);
        // It may have become the agent before it was frozen.
        let frozen = procfs::marked(&ground.state).pop()?;
        if frozen.command.contains("__launcher") {
            eventually("the launcher's record", || ground.vmm(&id));
            return Some((id, start, frozen));
        }
        procfs::signal(child.pid, Signal::SIGCONT);
        let _ = start.end();
        ground.ok(&["rm", &id]);
        ground.ledger.deleted(&id);
        None
    })
}

fn assert_restarts(ground: &Ground, id: &str) {
    ground.ok(&["start", id]);
    assert_eq!(ground.ok(&["exec", "--keep", id, "--", "echo", "again"]), "again");
    ground.check("a restart");
}

#[test]
fn a_vmm_that_dies_while_it_starts_fails_the_start() {
    let ground = Ground::new();
    let (id, start, agent) = freeze_a_start(&ground);
    procfs::signal(agent.pid, Signal::SIGKILL);
    let ended = start.end();
    assert_eq!(ended.code, Some(6), "{ended:#?}");
    assert_eq!(ground.phase(&id), "stopped");
    assert!(ground.ok(&["status", "--json", &id]).contains("did not start"));
    ground.check("the death of a starting VMM");
    assert_restarts(&ground, &id);
}

/// The launcher waits for its release and is not the VMM yet.
#[test]
fn a_launcher_that_dies_fails_the_start() {
    if !trace::is_possible() {
        return;
    }
    let ground = Ground::new();
    let id = ground.created();
    // The second rename writes the launcher to the registry.
    let record = Point { call: "rename".into(), occurrence: 2 };
    let words = ["start", id.as_str()];
    let start = ground.begin(&mut trace::injected(&ground, &record, "delay_enter=1000000", &words));
    let launcher = eventually("a launcher", || {
        procfs::marked(&ground.state)
            .into_iter()
            .find(|process| process.command.contains("__launcher"))
    });
    procfs::end(launcher.pid);
    let ended = start.end();
    assert!(ended.code.is_some_and(|code| code != 0), "{ended:#?}");
    assert_eq!(ground.phase(&id), "stopped");
    ground.check("the death of a launcher");
    assert_restarts(&ground, &id);
}

#[test]
fn a_start_that_dies_is_undone() {
    let ground = Ground::new();
    let (id, mut start, agent) = freeze_a_start(&ground);
    start.child.kill().unwrap();
    let _ = start.end();
    assert_eq!(ground.phase(&id), "starting");
    ground.check("the death of a start");
    assert!(!procfs::is_alive(agent.pid));
    assert!(ground.ok(&["status", "--json", &id]).contains("its start was interrupted"));
    assert_restarts(&ground, &id);
}

#[test]
fn a_started_vm_whose_vmm_dies_is_a_stopped_one() {
    let ground = Ground::new();
    for verb in ["status", "exec", "stop", "start", "rm", "reap"] {
        let id = ground.started();
        procfs::end(ground.vmm(&id).unwrap());
        match verb {
            "status" => assert!(ground.ok(&["status", "--json", &id]).contains("ended by itself")),
            "exec" => {
                let ended = ground.run(&["exec", &id, "--", "true"]);
                assert_eq!(ended.code, Some(125), "{ended:#?}");
            }
            "rm" => ground.ledger.deleted(&{
                ground.ok(&["rm", &id]);
                id.clone()
            }),
            "reap" => assert_eq!(ground.ok(&["reap"]), ""),
            _ => drop(ground.ok(&[verb, &id])),
        }
        ground.check(verb);
    }
}

#[test]
fn a_command_whose_vmm_dies_is_lost_and_says_so() {
    let ground = Ground::new();
    let id = ground.started();
    let words = ["exec", "--keep", &id, "-c", "touch began; exec sleep 1000"];
    let exec = ground.begin(&mut ground.mayfly(&words));
    let began = ground.state.join("vms").join(&id).join("work/began");
    eventually("the command", || began.exists().then_some(()));
    procfs::end(ground.vmm(&id).unwrap());
    let ended = exec.end();
    assert_eq!(ended.code, Some(125), "{ended:#?}");
    ground.check("the death of a VMM with a command in it");
    assert_restarts(&ground, &id);
}

#[test]
fn a_stop_waits_for_a_frozen_vmm_but_not_for_a_dead_one() {
    let ground = Ground::new();
    let id = ground.started();
    let vmm = ground.vmm(&id).unwrap();
    procfs::signal(vmm, Signal::SIGSTOP);
    let ended = ground.run(&["stop", "--grace", "1s", &id]);
    assert_eq!(ended.code, Some(0), "{ended:#?}");
    assert!(ended.took < Duration::from_secs(10), "{ended:#?}");
    assert!(!procfs::is_alive(vmm));

    ground.ok(&["start", &id]);
    let vmm = ground.vmm(&id).unwrap();
    procfs::signal(vmm, Signal::SIGSTOP);
    let stop = ground.begin(&mut ground.mayfly(&["stop", "--grace", "20s", &id]));
    eventually("stopping", || (ground.phase(&id) == "stopping").then_some(()));
    procfs::signal(vmm, Signal::SIGKILL);
    let ended = stop.end();
    assert_eq!(ended.code, Some(0), "{ended:#?}");
    ground.check("the death of a stopping VMM");
}

#[test]
fn a_stop_that_dies_is_finished_by_the_next_command() {
    let ground = Ground::new();
    for verb in ["start", "stop", "rm", "reap"] {
        let id = ground.started();
        let vmm = ground.vmm(&id).unwrap();
        procfs::signal(vmm, Signal::SIGSTOP);
        let mut stop = ground.begin(&mut ground.mayfly(&["stop", "--grace", "20s", &id]));
        eventually("stopping", || (ground.phase(&id) == "stopping").then_some(()));
        stop.child.kill().unwrap();
        let _ = stop.end();
        assert_eq!(ground.phase(&id), "stopping");
        let words: Vec<&str> =
            [verb, &id].into_iter().take(if verb == "reap" { 1 } else { 2 }).collect();
        ground.ok(&words);
        if verb == "rm" {
            ground.ledger.deleted(&id);
        }
        assert!(!procfs::is_alive(vmm), "{verb} left the old VMM");
        ground.check(verb);
    }
}
