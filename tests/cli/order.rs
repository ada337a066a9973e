//! Which of several mistakes is reported: the first in the documented order.

use crate::support::environment::Environment;

#[test]
fn create_checks_limits_then_profile_then_expiry_then_room() {
    let env = Environment::mock();
    let ids: Vec<String> = (0..4).map(|_| env.create(&[])).collect();
    // Limits come first: CPUs, memory, TTL.
    let all = ["create", "-p", "nope", "--vcpus", "9", "--mem", "1", "--ttl", "1"];
    env.run(&all).fails(2, "mayfly: --vcpus must be[..]");
    env.run(&["create", "-p", "nope", "--mem", "1", "--ttl", "1"])
        .fails(2, "mayfly: --mem must[..]");
    env.run(&["create", "-p", "nope", "--ttl", "1"]).fails(2, "mayfly: --ttl must be[..]");
    // Then the profile, before expired VMs are deleted.
    env.expire(&ids[0]);
    env.run(&["create", "-p", "nope"]).fails(
        3,
        "mayfly: no profile \"nope\"\n\
         hint: the profiles are debian-base, debian-build, debian-git, debian-kvm; see 'mayfly profiles'\n",
    );
    assert_eq!(env.ids().len(), 4);
    // Then expired VMs are deleted, before the number of VMs is checked.
    env.create(&[]);
    env.run(&["create"]).fails(5, "mayfly: max active VMs reached (4)[..]");
    env.clear();
}

#[test]
fn exec_checks_the_timeout_then_existence_then_expiry_then_state() {
    let env = Environment::mock();
    env.run(&["exec", "--timeout", "0", "nope", "--", "true"])
        .fails(125, "mayfly: --timeout must be positive\n");
    env.run(&["exec", "nope", "--", "true"]).fails(125, "mayfly: no VM \"nope\"\n[..]");
    let id = env.create(&[]);
    env.run(&["exec", &id, "--", "true"]).fails(
        125,
        &format!(
            "mayfly: VM {id} is created, not started\nhint: start it with 'mayfly start {id}'\n"
        ),
    );
    // Expiry comes before state.
    env.expire(&id);
    env.run(&["exec", &id, "--", "true"])
        .fails(125, &format!("mayfly: VM {id} expired and was automatically deleted\n[..]"));
    env.run(&["exec", &id, "--", "true"]).fails(125, "mayfly: no VM [..]");
}

#[test]
fn start_checks_existence_then_expiry_then_state() {
    let env = Environment::mock();
    env.run(&["start", "nope"]).fails(3, "mayfly: no VM \"nope\"\n[..]");
    let id = env.start(&[]);
    env.expire(&id);
    env.run(&["start", &id]).fails(3, &format!("mayfly: VM {id} expired and was[..]"));
}

#[test]
fn stop_and_rm_check_only_existence() {
    let env = Environment::mock();
    let id = env.start(&[]);
    env.expire(&id);
    assert_eq!(env.run(&["stop", "--json", &id]).json()["state"], "stopped");
    env.rm(&id);
}

#[test]
fn with_json_the_kinds_of_exec_are_kept_under_the_one_code() {
    let env = Environment::mock();
    let id = env.create(&[]);
    let kind = |args: &[&str]| env.run(args).json_error(125)["kind"].as_str().unwrap().to_owned();
    assert_eq!(kind(&["exec", "--json", "--timeout", "0s", &id, "--", "true"]), "usage");
    assert_eq!(kind(&["exec", "--json", "nope", "--", "true"]), "not_found");
    assert_eq!(kind(&["exec", "--json", &id, "--", "true"]), "wrong_state");
    env.expire(&id);
    assert_eq!(kind(&["exec", "--json", &id, "--", "true"]), "expired");
    assert_eq!(kind(&["run", "--json", "-p", "nope", "--", "true"]), "not_found");
    assert_eq!(kind(&["run", "--json", "--vcpus", "99", "--", "true"]), "usage");
}
