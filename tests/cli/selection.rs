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
fn a_label_or_filter_selects_without_all() {
    let env = Environment::mock();
    let names = |flags: &[&str]| -> Vec<String> {
        let answer = env.run(&[&["status", "--json"], flags].concat()).json();
        let vms = answer.as_array().unwrap().iter();
        vms.map(|vm| vm["name"].as_str().unwrap().to_owned()).collect()
    };
    for name in ["a", "b", "c"] {
        env.create(&["--name", name, "--label", "crowd", "--label", &format!("is={name}")]);
    }
    assert_eq!(names(&["--label", "is=b"]), ["b"]);
    assert_eq!(names(&["--label", "crowd", "--filter", "name=c"]), ["c"]);
    env.run(&["start", "--label", "crowd", "--filter", "name=b"]).prints("b\n");
    env.run(&["start", "--label", "is=a"]).prints("a\n");
    env.run(&["wait", "--for", "started", "--label", "is=a"]).prints("a\n");
    env.run(&["exec", "--keep", "--label", "is=a", "echo", "-n", "x"]).prints("a | x\n");
    env.run(&["exec", "--keep", "--filter", "name=b", "--", "echo", "y"]).prints("b | y\n");
    env.run(&["extend", "--label", "crowd", "30m"]).prints("a\nb\nc\n");
    env.run(&["stop", "--filter", "state=started"]).prints("a\nb\n");
    env.run(&["rm", "--label", "is=a"]).prints("a\n");
    env.run(&["rm", "--label", "is=a"]).is(0, "", "mayfly: no VM to delete\n");
    assert_eq!(names(&[]), ["b", "c"]);
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
        env.run(&[verb]).fails(2, "mayfly: [..]were not provided: <VM>[..]\nhint: [..]\n");
    }
    assert_eq!(env.ids(), [id.as_str()]);
    env.rm(&id);
}
