//! `--all` instead of names.

use serde_json::json;

use crate::support::environment::Environment;

#[test]
fn all_stops_the_running_vms_that_match() {
    let env = Environment::mock();
    let (a, b) =
        (env.start(&["--label", "job=a"]), env.start(&["--name", "b", "--label", "job=b"]));
    let created = env.create(&["--label", "job=a"]);
    env.run(&["stop", "--all", "--label", "job=a"]).prints(&format!("{a}\n"));
    assert_eq!(env.status(&a)["state"], "stopped");
    assert_eq!(env.status("b")["state"], "started");
    let stopped = env.run(&["stop", "--all", "--json"]).json();
    assert_eq!(stopped[0]["vm_id"], b.as_str());
    // The only other VM never ran, so nothing is stopped.
    assert_eq!(env.status(&created)["state"], "created");
    env.run(&["stop", "--all"]).is(0, "", "mayfly: no VM to stop\n");
    env.run(&["stop", "--all", "-q"]).prints("");
    env.run(&["stop", "--all", "--json"]).prints("[]\n");
    env.clear();
}

#[test]
fn all_deletes_the_vms_that_match() {
    let env = Environment::mock();
    let (a, b) = (env.start(&["--label", "x=1"]), env.create(&["--name", "b", "--label", "x=2"]));
    env.run(&["rm", "--all", "--label", "x=3"]).is(0, "", "mayfly: no VM to delete\n");
    env.run(&["rm", "--all", "--label", "x", "--filter", "state=created"]).prints("b\n");
    assert_eq!(env.ids(), [a.as_str()]);
    let answer = env.run(&["rm", "--all", "--json"]).json();
    assert_eq!(answer, json!([{"vm_id": a, "deleted": true, "reason": "explicit_delete"}]));
    env.run(&["rm", "--all"]).is(0, "", "mayfly: no VM to delete\n");
    env.run(&["rm", "--all", "--json"]).prints("[]\n");
    env.run(&["status", &b]).fails(3, "mayfly: no VM [..]");
}

#[test]
fn names_and_conditions_cannot_be_combined() {
    let env = Environment::mock();
    let id = env.create(&[]);
    for verb in ["stop", "rm"] {
        env.run(&[verb, "--all", &id]).fails(2, "mayfly: [..]cannot be used with[..]\n");
        env.run(&[verb, "--label", "x", &id]).fails(2, "mayfly: [..]\n");
        env.run(&[verb, "--label", "x"]).fails(2, "mayfly: [..]\n");
        env.run(&[verb]).fails(2, "mayfly: [..]were not provided: <VM>[..]\nhint: [..]\n");
    }
    assert_eq!(env.ids(), [id.as_str()]);
    env.rm(&id);
}
