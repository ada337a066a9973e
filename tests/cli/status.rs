//! `mayfly status`.

use std::fs;
use std::os::unix::fs::MetadataExt;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::support::environment::Environment;
use crate::support::fields;
use crate::support::processes::{eventually, lives};

/// Everything that a write to the registry would change.
fn trace(env: &Environment) -> (Vec<u8>, u64, i64, i64) {
    let about = fs::metadata(env.registry()).unwrap();
    (fs::read(env.registry()).unwrap(), about.ino(), about.mtime(), about.mtime_nsec())
}

#[test]
fn without_vms_nothing_is_shown_and_nothing_created() {
    let env = Environment::mock();
    env.run(&["status", "--json"]).prints("[]\n");
    env.run(&["status"]).prints("VM  NAME  PROFILE  STATE  RUNS ON  ISOLATION  SIZE  LEFT\n");
    assert!(!env.state().exists());
}

#[test]
fn the_list_is_one_array_and_the_named_are_lines() {
    let env = Environment::mock();
    let (a, b) = (env.create(&[]), env.create(&["--name", "b"]));
    let list = env.run(&["status", "--json"]).json();
    assert_eq!((&list[0]["vm_id"], &list[1]["vm_id"]), (&a.as_str().into(), &b.as_str().into()));
    let named = env.run(&["status", "--json", "b", &a]);
    named.is(0, "[..]\n[..]\n", "");
    let lines = named.json_lines();
    assert_eq!((&lines[0]["vm_id"], &lines[1]["vm_id"]), (&b.as_str().into(), &a.as_str().into()));
    assert_eq!(fields::names(named.stdout().lines().next().unwrap()), fields::VM);
    // The list has the same entries as the lines of single VMs.
    assert_eq!(list[1], lines[0]);
    env.clear();
}

#[test]
fn the_table_shows_what_people_ask_for() {
    let env = Environment::mock();
    let id = env.start(&["--name", "ci", "--vcpus", "2", "--mem", "1536", "--ttl", "1h"]);
    let answer = env.run(&["status", "ci"]);
    let row = answer.line();
    let row = row.lines().nth(1).unwrap();
    for word in [&id, "ci", "debian-base", "started", "mock", "none", "2 CPU, 1536M", "59m"] {
        assert!(row.contains(word), "{word} in {row}");
    }
    env.clear();
}

#[test]
fn status_never_writes_to_the_registry() {
    let env = Environment::mock();
    let (a, b, c) = (env.start(&[]), env.start(&[]), env.create(&[]));
    env.run(&["stop", &b]).prints(&format!("{b}\n"));
    kill(Pid::from_raw(env.vmm(&a)), Signal::SIGKILL).unwrap();
    env.expire(&c);
    let before = trace(&env);
    let list = env.run(&["status", "--json"]).json();
    let lines = |args: &[&str]| env.run(args).line().lines().count();
    assert_eq!(lines(&["status"]), 1 + 3);
    assert_eq!(lines(&["status", &a, &b]), 1 + 2);
    assert_eq!(trace(&env), before);
    assert_eq!(list.as_array().unwrap().len(), 3);
    env.clear();
}

#[test]
fn a_started_vm_whose_vmm_is_gone_is_a_stopped_one() {
    let env = Environment::mock();
    let id = env.start(&[]);
    let vmm = env.vmm(&id);
    kill(Pid::from_raw(vmm), Signal::SIGKILL).unwrap();
    eventually("the VMM's end", || !lives(vmm));
    let vm = env.status(&id);
    assert_eq!(
        (&vm["state"], &vm["last_error"]),
        (&"stopped".into(), &"the VM ended by itself".into())
    );
    env.run(&["status"]).is(0, "[..]stopped (the VM ended by itself)[..]", "");
    env.run(&["exec", &id, "--", "true"]).fails(
        125,
        &format!("mayfly: VM {id} is stopped (the VM ended by itself), not started\n[..]"),
    );
    // It can be started again.
    env.run(&["start", &id]).prints(&format!("{id}\n"));
    env.run(&["exec", &id, "--", "echo", "back"]).prints("back\n");
}

#[test]
fn an_expired_vm_is_listed_as_such_and_reaped_when_named() {
    let env = Environment::mock();
    let id = env.start(&["--name", "old"]);
    env.expire(&id);
    env.run(&["status"]).is(0, "[..]expired\n", "");
    assert_eq!(env.ids(), [id.as_str()]);
    env.run(&["status", "old"])
        .fails(3, "mayfly: VM old expired and was automatically deleted\nhint: [..]\n");
    assert!(env.ids().is_empty());
    env.run(&["status", "old"]).fails(3, "mayfly: no VM \"old\"\n[..]");
}

#[test]
fn existing_vms_are_shown_beside_missing_ones() {
    let env = Environment::mock();
    let id = env.create(&[]);
    let answer = env.run(&["status", "--json", "nope", &id]);
    assert_eq!(answer.code(), 3, "{answer}");
    assert_eq!(answer.json_lines().len(), 1);
    assert!(answer.stderr().contains("\"kind\":\"not_found\""), "{answer}");
    env.clear();
}

#[test]
fn a_damaged_registry_is_an_error_and_never_an_empty_one() {
    let env = Environment::mock();
    let id = env.create(&[]);
    let whole = fs::read(env.registry()).unwrap();
    for damaged in [&b""[..], b"{", &whole[..whole.len() / 2]] {
        fs::write(env.registry(), damaged).unwrap();
        for args in [&["status"][..], &["create"], &["rm", &id], &["reap"], &["start", &id]] {
            env.run(args).fails(
                1,
                "mayfly: [..]the registry is damaged[..]\nhint: 'mayfly reap --rebuild'[..]\n",
            );
        }
        assert_eq!(fs::read(env.registry()).unwrap(), damaged);
    }
    fs::write(env.registry(), whole).unwrap();
    env.rm(&id);
}
