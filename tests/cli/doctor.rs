//! `mayfly doctor`.

use crate::support::environment::Environment;
use crate::support::fields;

#[test]
fn every_check_that_is_not_well_has_a_remedy() {
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
    env.run(&["doctor"]).is(
        6,
        "[..]no  qemu [..]not installed\n[..]apt[..]qemu-system-x86[..]",
        "",
    );
}

#[test]
fn mock_alone_does_not_make_a_host_well() {
    let mut env = Environment::mock();
    env.set("MAYFLY_QEMU_BIN", "/nowhere/qemu");
    env.set("MAYFLY_BACKEND", "mock");
    assert_eq!(env.run(&["doctor", "--json"]).json_of(6)["usable"], false);
}
