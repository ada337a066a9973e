//! `mayfly wait`.

use std::fs;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

use crate::support::environment::Environment;
use crate::support::live::Live;
use crate::support::processes::{eventually, status_field};

/// Starts a `wait` and waits until it blocks.
fn waiting(env: &Environment, args: &[&str]) -> Live {
    let mut live = env.live(&[&["wait"], args].concat());
    let asleep = |live: &Live| {
        let call = fs::read_to_string(format!("/proc/{}/wchan", live.pid())).unwrap_or_default();
        call.contains("poll")
    };
    eventually("a wait", || asleep(&live) || !live.is_running());
    assert!(live.is_running());
    live
}

#[test]
fn wait_returns_at_once_for_a_vm_that_does_not_run() {
    let env = Environment::mock();
    let (created, stopped) = (env.create(&["--name", "a"]), env.start(&[]));
    env.run(&["stop", &stopped]).prints(&format!("{stopped}\n"));
    env.run(&["wait", "a", &stopped]).prints(&format!("a\n{stopped}\n"));
    let lines = env.run(&["wait", "--json", "a", &stopped]).json_lines();
    assert_eq!(lines[0], json!({"vm_id": created, "state": "created", "last_error": null}));
    assert_eq!(lines[1], json!({"vm_id": stopped, "state": "stopped", "last_error": null}));
    env.run(&["wait", "nope"]).fails(3, "mayfly: no VM \"nope\"\n[..]");
    env.run(&["wait", "--all", "--label", "x"]).is(0, "", "mayfly: no VM to wait for\n");
    env.clear();
}

#[test]
fn every_way_of_ending_ends_a_wait() {
    let mut env = Environment::mock();
    env.profiles("[limits]\nttl_seconds = { min = 1, max = 3600 }\n");
    let ended = |live: Live| -> Value {
        let mut json = live.end().json();
        json.as_object_mut().unwrap().remove("vm_id");
        json
    };
    let (stopped, removed) = (env.start(&[]), env.start(&[]));
    let (killed, expires) = (env.start(&[]), env.start(&["--ttl", "2s"]));
    let wait = |id: &str| waiting(&env, &["--json", id]);
    let waits = [wait(&stopped), wait(&removed), wait(&killed)];
    let all = waiting(&env, &["--all"]);
    let by_itself = env.live(&["wait", "--json", &expires]);
    env.run(&["stop", &stopped]).prints(&format!("{stopped}\n"));
    env.rm(&removed);
    kill(Pid::from_raw(env.vmm(&killed)), Signal::SIGKILL).unwrap();
    let [stop, remove, death] = waits;
    assert_eq!(ended(stop), json!({"state": "stopped", "last_error": null}));
    assert_eq!(ended(remove), json!({"state": "removed", "last_error": null}));
    let died = json!({"state": "stopped", "last_error": "the VM ended by itself"});
    assert_eq!(ended(death), died);
    let end = ended(by_itself);
    // The guest's timer or the registry's time, whichever is first.
    assert!(["stopped", "expired"].contains(&end["state"].as_str().unwrap()), "{end}");
    assert_eq!(all.end().line().lines().count(), 4);
    env.clear();
}

#[test]
fn a_wait_has_a_deadline_and_costs_nothing_until_then() {
    let env = Environment::mock();
    let id = env.start(&[]);
    let live = waiting(&env, &["--timeout", "1s", &id]);
    let begun = Instant::now();
    let switches = || status_field(live.pid(), "voluntary_ctxt_switches");
    let before = switches();
    // Commands that only read do not wake it.
    (0..5).for_each(|_| drop(env.status(&id)));
    assert_eq!(switches(), before);
    live.end().fails(4, &format!("mayfly: VM {id} is still started\nhint: [..]\n"));
    assert!(begun.elapsed() < Duration::from_secs(20));
    env.run(&["wait", "--timeout", "0", &id]).fails(4, "mayfly: VM [..] is still started\n[..]");
    assert_eq!(
        env.run(&["wait", "--timeout=0", "--json", &id]).json_error(4)["kind"],
        "wrong_state"
    );
    env.rm(&id);
}

#[test]
fn a_start_is_waited_for_and_so_is_a_deletion() {
    let env = Environment::mock();
    let (a, b) = (env.create(&["--keep"]), env.create(&[]));
    let start = waiting(&env, &["--for", "started", &a]);
    let never = waiting(&env, &["--for", "started", &b]);
    let deletion = waiting(&env, &["--for", "removed", "--json", &b]);
    env.run(&["start", &a]).prints(&format!("{a}\n"));
    start.end().prints(&format!("{a}\n"));
    env.run(&["exec", &a, "--", "echo", "here"]).prints("here\n");
    env.rm(&b);
    never.end().fails(3, &format!("mayfly: VM {b} does not exist\n[..]"));
    assert_eq!(deletion.end().json()["state"], "removed");
    let late = env.create(&[]);
    let never = waiting(&env, &["--for", "started", &late]);
    env.expire(&late);
    // Commands that write to the registry wake it.
    let other = env.create(&[]);
    assert_ne!(late, other);
    never.end().is(3, "", &format!("mayfly: VM {late} [..]"));
    env.clear();
}

/// A killed command leaves an unfinished operation.
#[test]
fn wait_ignores_an_operation_whose_command_was_killed() {
    let env = Environment::mock();
    let id = env.create(&[]);
    env.edit_registry(|registry| {
        registry["vms"][&id]["state"] = json!({"phase": "starting", "instance": null});
    });
    let json = env.run(&["wait", "--json", &id]).json();
    assert_eq!(
        (&json["state"], &json["last_error"]),
        (&"stopped".into(), &"its start was interrupted".into())
    );
    env.rm(&id);
}
