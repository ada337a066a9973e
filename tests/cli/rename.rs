//! `mayfly rename`.

use std::fs;

use serde_json::Value;

use crate::support::environment::Environment;

#[test]
fn a_vm_can_be_named_and_renamed() {
    let env = Environment::mock();
    let id = env.start(&["--keep"]);
    env.run(&["rename", &id, "ci"]).prints("ci\n");
    assert_eq!(env.status("ci")["vm_id"], id.as_str());
    let json = env.run(&["rename", "--json", "ci", "box"]).json();
    assert_eq!((&json["name"], &json["vm_id"]), (&"box".into(), &id.as_str().into()));
    env.run(&["exec", "box", "--", "echo", "here"]).prints("here\n");
    env.run(&["status", "ci"]).fails(3, "mayfly: no VM \"ci\"\n[..]");
    // Renaming it to its own name succeeds.
    env.run(&["rename", "box", "box"]).prints("box\n");
    // The old name is free, and a rebuilt registry has the new one.
    let other = env.create(&["--name", "ci"]);
    fs::remove_file(env.registry()).unwrap();
    env.run(&["reap", "--rebuild"]).is(0, "", "mayfly: registry rebuilt with 2 VMs\n");
    assert_eq!(env.status("box")["vm_id"], id.as_str());
    assert_eq!(env.status("ci")["vm_id"], other.as_str());
    env.clear();
}

#[test]
fn a_taken_or_invalid_name_changes_nothing() {
    let env = Environment::mock();
    let (a, b) = (env.create(&["--name", "a"]), env.create(&["--name", "b"]));
    let before = fs::read(env.registry()).unwrap();
    env.run(&["rename", "a", "b"]).fails(
        4,
        "mayfly: a VM named \"b\" exists already\nhint: choose another name, or delete it with 'mayfly rm b'\n",
    );
    assert_eq!(env.run(&["rename", "--json", "a", "b"]).json_error(4)["kind"], "name_taken");
    for bad in ["", "-x", "x_y", "\u{1b}[2J", &a] {
        env.run(&["rename", "a", "--", bad]).fails(2, "mayfly: [..]\n");
    }
    env.run(&["rename", "nope", "c"]).fails(3, "mayfly: no VM \"nope\"\n[..]");
    assert_eq!(fs::read(env.registry()).unwrap(), before);
    env.expire(&a);
    env.run(&["rename", "a", "c"]).fails(3, "mayfly: VM [..] expired[..]");
    assert_eq!(env.ids(), [b]);
    env.clear();
}

/// A kill between the manifest and the registry can leave two VMs with one name.
#[test]
fn of_two_vms_with_one_name_the_younger_keeps_it() {
    let env = Environment::mock();
    let (old, young) = (env.create(&["--name", "a"]), env.create(&["--name", "b"]));
    let manifest = env.state().join("vms").join(&old).join("manifest.json");
    let mut json: Value = serde_json::from_slice(&fs::read(&manifest).unwrap()).unwrap();
    json["name"] = "b".into();
    // As an older mayfly wrote it.
    json.as_object_mut().unwrap().remove("seal");
    fs::write(&manifest, json.to_string()).unwrap();
    fs::remove_file(env.registry()).unwrap();
    env.run(&["reap", "--rebuild"]).is(0, "", "mayfly: registry rebuilt with 2 VMs\n");
    assert_eq!(env.status("b")["vm_id"], young.as_str());
    assert!(env.status(&old)["name"].is_null());
    env.clear();
}
