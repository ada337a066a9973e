//! `inspect` and `df`.

use std::fs;

use serde_json::json;

use crate::support::environment::Environment;
use crate::support::fields;

#[test]
fn inspect_shows_everything_and_changes_nothing() {
    let env = Environment::mock();
    let id = env.start(&["--name", "web", "--label", "job=7", "--keep"]);
    let vm = env.run(&["inspect", "--json", "web"]);
    let names = fields::names(vm.stdout());
    assert_eq!(names[..fields::VM.len()], fields::VM, "a VM is the same in every verb");
    let vm = vm.json();
    let directory = env.state().join("vms").join(&id);
    assert_eq!((&vm["vmm_pid"], &vm["template"]), (&env.vmm(&id).into(), &json!(null)));
    assert_eq!(vm["paths"]["directory"], json!(directory));
    assert_eq!(vm["paths"]["vmm_log"], json!(directory.join("vmm.log")));
    let (created, started) =
        (vm["created_at"].as_f64().unwrap(), vm["started_at"].as_f64().unwrap());
    assert!((created - 1.0..created + 60.0).contains(&started), "{vm}");
    assert!((1.0..=600.0).contains(&vm["left_seconds"].as_f64().unwrap()), "{vm}");
    env.run(&["inspect", "web"]).is(
        0,
        &format!(
            "VM           {id}\nName         web\nState        started\n[..]Labels       job=7\n[..]\
             Keep         yes\n[..]Expires      [..] left\nVMM          process {}\n[..]",
            env.vmm(&id)
        ),
        "",
    );

    // One that is not there does not hide the others; one that has expired is shown.
    env.expire(&id);
    let before = fs::read(env.registry()).unwrap();
    env.run(&["inspect", "nope", "web"]).is(
        3,
        &format!("VM           {id}\n[..]Expires      [..], expired\n[..]"),
        "mayfly: no VM \"nope\"\nhint: [..]\n",
    );
    assert_eq!(env.run(&["inspect", "--json", "web"]).json()["left_seconds"], 0.0);
    assert_eq!(fs::read(env.registry()).unwrap(), before);
    env.run(&["reap"]).prints("deleted VM [..]\n");
    env.run(&["inspect"]).fails(2, "mayfly: the following required arguments[..]");
}

#[test]
fn inspect_shows_image_disk_and_template() {
    let env = Environment::qemu();
    let id = env.start(&[]);
    let vm = env.run(&["inspect", "--json", &id]).json();
    let images = env.run(&["image", "ls", "--json"]).json();
    let image = images.as_array().unwrap().iter().find(|one| one["profile"] == "debian-base");
    assert_eq!(vm["image_digest"], image.unwrap()["image_digest"]);
    assert!(fs::exists(vm["paths"]["image"].as_str().unwrap()).unwrap(), "{vm}");
    let (bytes, apparent) = (vm["disk"]["bytes"].as_u64(), vm["disk"]["apparent_bytes"].as_u64());
    assert!(bytes.unwrap() > 0 && bytes < apparent, "{vm}");
    let text = env.run(&["inspect", &id]).line();
    match vm["template"].as_str() {
        Some(name) => assert!(text.contains(&format!("From         template {name}\n")), "{text}"),
        None => assert!(text.contains("From         booted\n"), "{text}"),
    }
    env.rm(&id);
}

#[test]
fn df_counts_files_once_and_names_the_command_that_frees_them() {
    let env = Environment::mock();
    env.run(&["df"]).is(0, "WHAT [..]\nimages [..]\nall [..]\n", "");
    assert!(!env.state().exists() && !env.artifacts().exists(), "looking makes nothing");
    let id = env.create(&["--name", "web"]);
    let template = env.artifacts().join("templates/one-0123");
    fs::create_dir_all(&template).unwrap();
    fs::write(template.join("used"), "").unwrap();
    let memory = template.join("memory");
    fs::write(&memory, vec![1; 4 << 20]).unwrap();
    fs::hard_link(&memory, env.state().join("vms").join(&id).join("disk.img")).unwrap();
    let left = env.artifacts().join(".build-old-1-0a1b2c3d");
    fs::create_dir(&left).unwrap();
    fs::write(left.join("rootfs"), vec![1; 2 << 20]).unwrap();
    let df = env.run(&["df", "--json"]).json();
    let group = |kind: &str| {
        let all = df["groups"].as_array().unwrap();
        all.iter().find(|group| group["kind"] == kind).unwrap()
    };
    let bytes = |kind: &str| group(kind)["bytes"].as_u64().unwrap();
    assert!((4 << 20..5 << 20).contains(&bytes("templates")), "{df}");
    assert!(bytes("vms") < 1 << 20, "the same file is counted once: {df}");
    assert!((2 << 20..3 << 20).contains(&bytes("leftovers")), "{df}");
    assert_eq!(group("leftovers")["items"][0]["path"], json!(left));
    assert_eq!(group("leftovers")["reclaim_with"], "mayfly reap");
    assert_eq!(
        (&group("vms")["items"][0]["vm_id"], &group("vms")["reclaimable_bytes"]),
        (&json!(id), &json!(0))
    );
    env.run(&["df", "-v"]).is(
        0,
        "WHAT [..]\ntemplates [..] mayfly template rm --all\n[..]\ntemplates  one-0123 [..]\nvms        web [..]",
        "",
    );
    env.expire(&id);
    let df = env.run(&["df", "--json"]).json();
    let vms = df["groups"].as_array().unwrap().iter().find(|group| group["kind"] == "vms");
    assert_eq!(vms.unwrap()["items"][0]["reclaimable"], true);
    // What it names frees what it says.
    env.run(&["reap"]).is(0, "deleted VM [..]\ndeleted [..]\n", "");
    env.run(&["template", "rm", "--all"]).prints("one-0123\n");
    assert_eq!(env.run(&["df", "--json"]).json()["reclaimable_bytes"], 0);
}
