//! Labels, and lists of VMs by label.

use std::fs;

use serde_json::json;

use crate::support::environment::Environment;

/// The names of the VMs in a list with these flags.
#[track_caller]
fn listed(env: &Environment, flags: &[&str]) -> Vec<String> {
    let list = env.run(&[&["status", "--json"], flags].concat()).json();
    let names = list.as_array().unwrap().iter();
    names.map(|vm| vm["name"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn a_vm_is_found_by_its_labels_and_by_what_it_is() {
    let env = Environment::mock();
    env.create(&["--name", "ci-b", "--label", "job=nightly", "--label", "n=1", "--mem", "300"]);
    env.start(&["--name", "ci-a", "--label", "job=hourly", "--mem", "512"]);
    env.create(&["--name", "box", "-p", "debian-git", "--mem", "400"]);
    for (filters, expected) in [
        (&["label=job"][..], &["ci-b", "ci-a"][..]),
        (&["label=job=nightly"], &["ci-b"]),
        (&["label=job", "state=started"], &["ci-a"]),
        (&["label=job=nightly", "label=n=2"], &[]),
        (&["profile=debian-git"], &["box"]),
        (&["backend=mock", "name=ci-*"], &["ci-b", "ci-a"]),
        (&["backend=qemu"], &[]),
    ] {
        let flags: Vec<&str> = filters.iter().flat_map(|filter| ["--filter", filter]).collect();
        assert_eq!(listed(&env, &flags), expected, "{filters:?}");
    }
    for (key, expected) in [
        ("created", ["ci-b", "ci-a", "box"]),
        ("-created", ["box", "ci-a", "ci-b"]),
        ("name", ["box", "ci-a", "ci-b"]),
        ("mem", ["ci-b", "box", "ci-a"]),
        ("-mem", ["ci-a", "box", "ci-b"]),
        ("state", ["ci-b", "box", "ci-a"]),
    ] {
        assert_eq!(listed(&env, &["--sort", key]), expected, "{key}");
    }
    // In the table, and with ids only.
    let table = env.run(&["status", "--filter", "state=started"]).line();
    assert_eq!(table.lines().count(), 2, "{table}");
    let ids = env.ids();
    env.run(&["status", "-q"]).prints(&format!("{}\n{}\n{}\n", ids[0], ids[1], ids[2]));
    env.run(&["status", "-q", "--filter", "name=box"]).prints(&format!("{}\n", ids[2]));
    env.run(&["status", "-q", "ci-a"]).prints(&format!("{}\n", ids[1]));
    env.run(&["status", "-q", "--filter", "name=nope"]).prints("");
    env.clear();
}

#[test]
fn labels_are_shown_and_outlive_a_lost_registry() {
    let env = Environment::mock();
    let created =
        env.run(&["create", "--json", "--label", "a=1", "--label", "b", "--label", "a=2"]);
    let vm = created.json();
    assert_eq!(vm["labels"], json!({"a": "2", "b": ""}));
    let id = vm["vm_id"].as_str().unwrap();
    assert_eq!(env.status(id)["labels"], vm["labels"]);
    fs::remove_file(env.registry()).unwrap();
    env.run(&["reap", "--rebuild"]).is(0, "", "mayfly: registry rebuilt with 1 VMs\n");
    assert_eq!(env.status(id)["labels"], vm["labels"]);
    env.rm(id);
    // A VM of `run` has labels too.
    let list = env.run(&["run", "--label", "x=y", "--keep", "--", "true"]);
    list.is(0, "", "mayfly: kept VM [..]\n");
    assert_eq!(env.run(&["status", "--json"]).json()[0]["labels"], json!({"x": "y"}));
    env.clear();
}

#[test]
fn invalid_labels_and_too_many_are_refused() {
    let env = Environment::mock();
    for bad in ["", "=v", "k k=v", "k=\u{1b}[2J", "ü=1"] {
        env.run(&["create", "--label", bad]).fails(2, "mayfly: [..]--label[..]\n");
    }
    let many: Vec<String> = (0..17).map(|n| format!("--label=k{n}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    env.run(&[&["create"][..], &many].concat()).fails(2, "mayfly: 17 labels are too many[..]\n");
    let long = format!("k={}", "v".repeat(250));
    let long: Vec<String> = (0..5).map(|n| format!("--label={n}{long}")).collect();
    let long: Vec<&str> = long.iter().map(String::as_str).collect();
    env.run(&[&["create"][..], &long].concat()).fails(2, "mayfly: the labels are too long[..]\n");
    env.run(&[&["run"][..], &many, &["--", "true"]].concat()).fails(125, "mayfly: 17 labels[..]\n");
    for bad in ["state=on", "color=red", "started"] {
        env.run(&["status", "--filter", bad]).fails(2, "mayfly: [..]--filter[..]\n");
    }
    env.run(&["status", "--sort", "size"]).fails(2, "mayfly: [..]--sort[..]\n");
    env.run(&["status", "ci", "--filter", "state=started"]).fails(2, "mayfly: [..]\n");
    assert!(!env.state().exists());
}

/// The previous schema has no labels.
#[test]
fn a_registry_of_the_previous_version_is_read_and_kept() {
    let env = Environment::mock();
    let id = env.start(&["--name", "old"]);
    env.edit_registry(|registry| registry["schema"] = 1.into());
    assert_eq!(env.status("old")["labels"], json!({}));
    assert!(fs::read_to_string(env.registry()).unwrap().contains("\"schema\":1"));
    env.run(&["exec", "--keep", "old", "--", "echo", "here"]).prints("here\n");
    let labelled = env.create(&["--label", "new"]);
    assert!(fs::read_to_string(env.registry()).unwrap().contains("\"schema\":3"));
    assert_eq!(env.ids(), [id.as_str(), &labelled]);
    env.clear();
}
