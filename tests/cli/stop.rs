//! `mayfly stop`.

use std::time::Instant;

use crate::support::environment::Environment;
use crate::support::processes::lives;

#[test]
fn ends_the_vmm_and_keeps_the_files() {
    let env = Environment::mock();
    let id = env.start(&[]);
    env.run(&["exec", "--keep", &id, "--", "touch", "kept"]).prints("");
    let vmm = env.vmm(&id);
    assert!(lives(vmm));
    let vm = env.run(&["stop", "--json", &id]).json();
    assert!(!lives(vmm), "stop returned before the VMM was gone");
    assert_eq!((&vm["state"], &vm["last_error"]), (&"stopped".into(), &().into()));
    env.run(&["start", &id]).prints(&format!("{id}\n"));
    env.run(&["exec", &id, "--", "ls"]).prints("kept\n");
}

#[test]
fn is_idempotent() {
    let env = Environment::mock();
    let id = env.start(&[]);
    for _ in 0..3 {
        env.run(&["stop", &id]).prints(&format!("{id}\n"));
    }
    env.rm(&id);
    env.run(&["stop", &id]).fails(3, "mayfly: no VM [..]");
}

#[test]
fn a_created_vm_can_be_marked_stopped() {
    let env = Environment::mock();
    let id = env.create(&[]);
    assert_eq!(env.run(&["stop", "--json", &id]).json()["state"], "stopped");
    env.rm(&id);
}

#[test]
fn a_guest_that_ignores_a_stop_is_killed_after_its_grace() {
    let env = Environment::mock();
    let id = env.start(&[]);
    env.run(&[
        "exec",
        "--keep",
        &id,
        "-c",
        "trap '' TERM HUP INT; (while :; do sleep 1; done) >/dev/null 2>&1 & disown",
    ])
    .prints("");
    let begun = Instant::now();
    env.run(&["stop", "--grace", "1s", &id]).prints(&format!("{id}\n"));
    assert!(begun.elapsed().as_secs() < 10, "{:?}", begun.elapsed());
    env.rm(&id);
}

#[test]
fn grace_may_come_from_a_variable_and_must_be_a_duration() {
    let mut env = Environment::mock();
    let id = env.start(&[]);
    env.set("MAYFLY_GRACE", "eternity");
    env.run(&["stop", &id]).fails(2, "mayfly: MAYFLY_GRACE: \"eternity\" is not a duration\n[..]");
    env.set("MAYFLY_GRACE", "2s");
    env.run(&["stop", &id]).prints(&format!("{id}\n"));
    env.rm(&id);
}

#[test]
fn several_are_stopped_and_every_failure_is_reported() {
    let env = Environment::mock();
    let (a, b) = (env.start(&[]), env.start(&[]));
    env.run(&["stop", &a, "nope", &b]).is(
        3,
        &format!("{a}\n{b}\n"),
        "mayfly: no VM \"nope\"\n[..]",
    );
    assert_eq!(
        (&env.status(&a)["state"], &env.status(&b)["state"]),
        (&"stopped".into(), &"stopped".into())
    );
    env.clear();
}
