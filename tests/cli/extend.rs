//! `mayfly extend`.

use std::fs;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::support::environment::Environment;
use crate::support::processes::{eventually, lives};
use crate::support::timers::{fdinfo, timer};

/// The seconds from creation to end, from two fields of the list.
#[track_caller]
fn life(env: &Environment, vm: &str) -> f64 {
    let vm = env.status(vm);
    let number = |field: &str| vm[field].as_f64().unwrap();
    assert!((number("expires_at") - number("created_at") - number("ttl_seconds")).abs() < 0.001);
    number("ttl_seconds")
}

#[test]
fn a_vm_never_loses_time() {
    let env = Environment::mock();
    let id = env.start(&["--name", "ci", "--ttl", "5m", "--keep"]);
    let guest = || timer(&fdinfo(env.vmm(&id)));
    assert!(guest() <= 300.0);
    env.run(&["extend", "ci", "20m"]).prints("ci\n");
    assert!((1200.0..1260.0).contains(&life(&env, "ci")));
    assert!((1140.0..=1201.0).contains(&guest()), "{}", guest());
    // It already had longer to live.
    let before = env.status("ci");
    env.run(&["extend", "ci", "10m"]).prints("ci\n");
    assert_eq!(env.status("ci"), before);
    let json = env.run(&["extend", "--json", &id, "1800"]).json();
    assert_eq!(json, env.status("ci"));
    assert!(json["ttl_seconds"].as_f64().unwrap() >= 1800.0);
    assert!(guest() > 1740.0);
    // It still works.
    env.run(&["exec", "ci", "--", "echo", "here"]).prints("here\n");
    env.rm("ci");
}

#[test]
fn several_are_extended_and_a_missing_one_stops_none() {
    let env = Environment::mock();
    env.create(&["--name", "a", "--ttl", "5m"]);
    env.create(&["--name", "b", "--ttl", "5m"]);
    env.run(&["extend", "a", "nope", "--json", "b", "20m"]).is(
        3,
        "{[..]}\n{[..]}\n",
        "{\"error\":{\"kind\":\"not_found\",[..]\n",
    );
    assert!(life(&env, "a") >= 1200.0 && life(&env, "b") >= 1200.0);
    env.run(&["extend", "--all", "30m"]).prints("a\nb\n");
    assert!(life(&env, "a") >= 1800.0 && life(&env, "b") >= 1800.0);
    env.clear();
    env.run(&["extend", "--all", "30m"]).is(0, "", "mayfly: no VM to extend\n");
}

#[test]
fn a_stopped_vm_gets_the_time_with_its_next_start() {
    let env = Environment::mock();
    let id = env.create(&["--ttl", "5m"]);
    env.run(&["extend", &id, "1h"]).prints(&format!("{id}\n"));
    env.run(&["start", &id]).prints(&format!("{id}\n"));
    assert!(timer(&fdinfo(env.vmm(&id))) > 3500.0);
    env.run(&["stop", &id]).prints(&format!("{id}\n"));
    env.run(&["extend", &id, "1h"]).prints(&format!("{id}\n"));
    // A rebuilt registry has the new end.
    let before = life(&env, &id);
    fs::remove_file(env.registry()).unwrap();
    env.run(&["reap", "--rebuild"]).is(0, "", "mayfly: registry rebuilt with 1 VMs\n");
    assert_eq!(life(&env, &id), before);
    env.rm(&id);
}

#[test]
fn an_extended_vm_ends_at_its_new_end() {
    let mut env = Environment::mock();
    env.profiles("[limits]\nttl_seconds = { min = 1, max = 3600 }\n");
    let (short, long) = (env.start(&["--ttl", "2s"]), env.start(&["--ttl", "2s"]));
    let (vmm, other) = (env.vmm(&short), env.vmm(&long));
    env.run(&["extend", &long, "4s"]).prints(&format!("{long}\n"));
    eventually("the end of the one", || !lives(vmm));
    assert_eq!(env.run(&["exec", "--keep", &long, "--", "echo", "here"]).line(), "here");
    eventually("the end of the other", || !lives(other));
    // The guest ends a moment before the VM expires.
    eventually("a reap", || !env.run(&["reap"]).stdout().is_empty() || env.ids().is_empty());
    env.run(&["reap"]).prints("");
    assert!(env.ids().is_empty());
}

#[test]
fn an_invalid_extension_changes_nothing() {
    let env = Environment::mock();
    let id = env.start(&["--ttl", "5m"]);
    let before = fs::read(env.registry()).unwrap();
    for (duration, said) in
        [("5s", "5s\nhint: lower"), ("2h", "2h\nhint: raise"), ("0", "0s\nhint: lower")]
    {
        env.run(&["extend", &id, duration]).fails(
            2,
            &format!("mayfly: DURATION must be between 1m and 1h, not {said} [limits][..]\n"),
        );
    }
    for (args, said) in [
        (&["extend", "30m"][..], "no VM is given\nhint: [..]'mayfly extend VM 30m'"),
        (&["extend", &id], &format!("no duration is given\nhint: [..]'mayfly extend {id} 30m'")),
        (&["extend", "30m", &id], &format!("\"{id}\" is not a duration\nhint: [..]")),
        (
            &["extend", "--all", &id, "30m"],
            &format!("\"{id}\" cannot be used with --all, --label or --filter\nhint: [..]"),
        ),
        (&["extend", "--all"], "the following required arguments were not provided: [..]"),
    ] {
        env.run(args).fails(2, &format!("mayfly: {said}\n"));
    }
    env.run(&["extend", &id, "soon"]).fails(2, "mayfly: [..]not a duration[..]");
    env.run(&["extend", &id]).fails(2, "mayfly: [..]\nhint: [..]\n");
    env.run(&["extend", "nope", "10m"]).fails(3, "mayfly: no VM \"nope\"\n[..]");
    assert_eq!(fs::read(env.registry()).unwrap(), before);
    env.expire(&id);
    env.run(&["extend", &id, "10m"])
        .fails(3, &format!("mayfly: VM {id} expired and was automatically deleted\n[..]"));
    assert!(env.ids().is_empty());
}

/// The registry must not have a later end than the guest.
#[test]
fn a_vm_whose_guest_does_not_answer_is_not_extended() {
    let env = Environment::mock();
    let id = env.start(&["--ttl", "5m"]);
    let before = env.status(&id);
    let vmm = Pid::from_raw(env.vmm(&id));
    kill(vmm, Signal::SIGSTOP).unwrap();
    let live = env.live(&["extend", &id, "10m"]);
    let of_state = fs::read_dir(env.runtime()).unwrap().next().unwrap().unwrap().path();
    let claim = of_state.join(&id).join("port.0.lock");
    eventually("a claim of its line", || fs::metadata(&claim).is_ok_and(|file| file.len() > 0));
    kill(vmm, Signal::SIGKILL).unwrap();
    live.end().fails(1, "mayfly: the VM was not given more time: [..]");
    assert_eq!(env.status(&id)["expires_at"], before["expires_at"]);
    env.rm(&id);
}
