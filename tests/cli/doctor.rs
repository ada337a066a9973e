//! `mayfly doctor`.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use crate::support::environment::Environment;
use crate::support::{fields, programs};

#[test]
fn every_failed_check_has_a_remedy() {
    let env = Environment::mock();
    let answer = env.run(&["doctor", "--json"]);
    assert!([0, 6].contains(&answer.code()), "{answer}");
    let diagnosis = answer.json_of(answer.code());
    assert_eq!(fields::names(answer.stdout()), ["usable", "backend", "isolation", "checks"]);
    assert_eq!(diagnosis["usable"], answer.code() == 0);
    assert_ne!(diagnosis["backend"], "mock", "mock is no real backend");
    let checks = diagnosis["checks"].as_array().unwrap();
    for check in checks {
        let well = check["verdict"] == "ok";
        assert!(well || check["remedy"].is_string(), "no remedy: {check}");
    }
    for name in ["kvm", "qemu", "firecracker", "agent"] {
        assert!(checks.iter().any(|check| check["name"] == name), "{name} in {diagnosis}");
    }
    assert!(!env.state().exists(), "looking makes nothing");
}

#[test]
fn without_any_backend_it_fails_and_says_what_to_install() {
    let mut env = Environment::mock();
    env.set("MAYFLY_QEMU_BIN", "/nowhere/qemu");
    env.set("MAYFLY_FIRECRACKER_BIN", "/nowhere/firecracker");
    env.run(&["doctor"]).is(
        6,
        "[..]no  qemu [..]/nowhere/qemu is not installed\n[..]apt[..]qemu-system-x86[..]\n\
         --  firecracker [..]/nowhere/firecracker is not installed\n[..]=> [..]\n\
         VMs cannot run here yet: see the failed checks above\n",
        "",
    );
}

#[test]
fn mock_alone_does_not_make_a_host_usable() {
    let mut env = Environment::mock();
    env.set("MAYFLY_QEMU_BIN", "/nowhere/qemu");
    env.set("MAYFLY_FIRECRACKER_BIN", "/nowhere/firecracker");
    env.set("MAYFLY_BACKEND", "mock");
    assert_eq!(env.run(&["doctor", "--json"]).json_of(6)["usable"], false);
}

#[test]
fn a_broken_backend_is_reported() {
    let mut env = Environment::mock();
    env.set("MAYFLY_FIRECRACKER_BIN", "/nowhere/firecracker");
    let broken = env.file("qemu", "#!/bin/sh\necho it is broken >&2\nexit 1\n");
    fs::set_permissions(&broken, fs::Permissions::from_mode(0o755)).unwrap();
    env.set("MAYFLY_QEMU_BIN", &broken);
    let diagnosis = env.run(&["doctor", "--json"]).json_of(6);
    assert_eq!(diagnosis["usable"], false);
    assert!(diagnosis["backend"].is_null() && diagnosis["isolation"].is_null(), "{diagnosis}");
    env.run(&["doctor"]).is(
        6,
        "[..]no  qemu [..] failed: it is broken\n[..]=> [..]MAYFLY_QEMU_BIN\n[..]",
        "",
    );

    // A QEMU without the accelerator that is set.
    env.file("qemu", "#!/bin/sh\necho QEMU emulator version 7.2.22\n");
    env.set("MAYFLY_ACCEL", "none");
    env.run(&["doctor"]).is(
        6,
        "[..]no  qemu [..]qemu has no accelerator \"none\"\n[..]=> [..]MAYFLY_ACCEL[..]",
        "",
    );
}

#[test]
fn without_the_agent_no_backend_is_usable() {
    let mut env = Environment::mock();
    env.set("MAYFLY_FIRECRACKER_BIN", "/nowhere/firecracker");
    let qemu = env.file("qemu", "#!/bin/sh\necho QEMU emulator version 7.2.22\n");
    fs::set_permissions(&qemu, fs::Permissions::from_mode(0o755)).unwrap();
    env.set("MAYFLY_QEMU_BIN", &qemu);
    assert_eq!(env.run(&["doctor", "--json"]).json()["usable"], true);
    let alone = env.copy_program(&programs::mayfly(), env.root());
    let answer = env.run_client(alone.to_str().unwrap(), &["doctor", "--json"]);
    let diagnosis = answer.json_of(6);
    assert_eq!(diagnosis["usable"], false);
    let agent =
        diagnosis["checks"].as_array().unwrap().iter().find(|check| check["name"] == "agent");
    assert_eq!(agent.unwrap()["detail"], "mayfly-agent is not installed beside mayfly");
}
