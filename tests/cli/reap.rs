//! `mayfly reap`.

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use nix::unistd::geteuid;
use serde_json::{Value, json};

use crate::support::environment::Environment;
use crate::support::processes::{self, eventually, lives};

#[test]
fn with_nothing_to_do_reap_is_silent() {
    let env = Environment::mock();
    env.run(&["reap"]).prints("");
    let id = env.start(&[]);
    env.run(&["reap"]).prints("");
    env.run(&["reap", "--dry-run"]).prints("");
    assert_eq!(
        env.run(&["reap", "--json"]).json(),
        json!({
            "deleted_vm_ids": [], "count": 0, "deletions": [], "dry_run": false, "rebuilt_count": null
        })
    );
    assert_eq!(env.status(&id)["state"], "started");
    env.rm(&id);
}

#[test]
fn expired_vms_are_deleted_and_a_dry_run_only_lists_them() {
    let env = Environment::mock();
    let (old, older, young) = (env.start(&[]), env.create(&[]), env.start(&[]));
    env.expire(&old);
    env.expire(&older);
    let mut doomed = [old.clone(), older.clone()];
    doomed.sort();
    let before = fs::read(env.registry()).unwrap();
    let would = env.run(&["reap", "--dry-run"]);
    would.prints(&format!("would delete VM {}\nwould delete VM {}\n", doomed[0], doomed[1]));
    assert_eq!(fs::read(env.registry()).unwrap(), before);
    assert!(lives(env.vmm(&old)));
    let json = env.run(&["reap", "--dry-run", "--json"]).json();
    assert_eq!((&json["deleted_vm_ids"], &json["count"]), (&json!(doomed), &2.into()));
    let deletion = json!({ "vm_id": doomed[0], "deleted": false, "reason": "expired" });
    assert_eq!((&json["deletions"][0], &json["dry_run"]), (&deletion, &true.into()));
    let json = env.run(&["reap", "--json"]).json();
    assert_eq!((&json["deleted_vm_ids"], &json["count"]), (&json!(doomed), &2.into()));
    let deletion = json!({ "vm_id": doomed[1], "deleted": true, "reason": "expired" });
    assert_eq!(json["deletions"][1], deletion);
    env.run(&["reap"]).prints("");
    assert_eq!(env.ids(), [young.as_str()]);
    env.clear();
}

#[test]
fn a_vm_ends_when_its_time_is_up() {
    let mut env = Environment::mock();
    env.profiles("[limits]\nttl_seconds = { min = 1, max = 3600 }\n");
    let id = env.start(&["--ttl", "3s"]);
    let vmm = env.vmm(&id);
    // Without a reap: the agent ends the VM.
    eventually("the VMM's end", || !lives(vmm));
    let list = env.run(&["status", "--json"]).json();
    assert_eq!(list[0]["state"], "stopped");
    env.run(&["reap"]).prints(&format!("deleted VM {id}\n"));
}

#[test]
fn a_ttl_of_zero_expires_at_once() {
    let mut env = Environment::mock();
    env.profiles("[limits]\nttl_seconds = { min = 0, max = 3600 }\n");
    let id = env.create(&["--ttl", "0"]);
    env.run(&["reap"]).prints(&format!("deleted VM {id}\n"));
}

#[test]
fn directories_and_locks_without_a_record_are_swept() {
    let env = Environment::mock();
    let keep = env.start(&[]);
    let stray = env.state().join("vms/0123456789ab");
    fs::create_dir(&stray).unwrap();
    fs::write(stray.join("disk.img"), "x").unwrap();
    fs::write(env.state().join("locks/ba9876543210.lock"), "").unwrap();
    // Other names are not touched.
    let strange = env.state().join("vms/not-an-id");
    fs::create_dir(&strange).unwrap();
    env.run(&["reap", "--dry-run"]).prints(&format!("would delete {}\n", stray.display()));
    assert!(stray.exists());
    env.run(&["reap"]).prints(&format!("deleted {}\n", stray.display()));
    assert!(!stray.exists() && strange.exists());
    assert!(!env.state().join("locks/ba9876543210.lock").exists());
    env.run(&["reap"]).prints("");
    fs::remove_dir(strange).unwrap();
    assert_eq!(env.status(&keep)["state"], "started");
    env.clear();
}

/// Loses a VM's record, its lock and its directory, and leaves its processes and sockets.
fn forget(env: &Environment, id: &str) {
    env.edit_registry(|registry| drop(registry["vms"].as_object_mut().unwrap().remove(id)));
    fs::remove_file(env.state().join(format!("locks/{id}.lock"))).unwrap();
    fs::remove_dir_all(env.state().join("vms").join(id)).unwrap();
}

#[test]
fn a_process_of_a_vm_without_a_record_is_killed() {
    let env = Environment::mock();
    let (keep, lost) = (env.start(&[]), env.start(&[]));
    let vmm = env.vmm(&lost);
    forget(&env, &lost);
    env.run(&["reap", "--dry-run"])
        .prints(&format!("would delete process {vmm}\nwould delete [..]\n"));
    assert!(lives(vmm));
    env.run(&["reap"]).prints(&format!("deleted process {vmm}\ndeleted [..]\n"));
    assert!(!lives(vmm));
    assert_eq!(env.status(&keep)["state"], "started");
    env.clear();
}

/// Anyone can set a variable, and a shell that exports one passes it on.
#[test]
fn a_process_that_only_has_the_variable_of_a_vm_is_left_alone() {
    let env = Environment::mock();
    let (running, stopped) = (env.start(&[]), env.create(&[]));
    let mut strangers = Vec::new();
    for id in [running.as_str(), &stopped, "0123456789ab"] {
        for user in [None, Some(65534)] {
            let mut sleep = Command::new("sleep");
            sleep.arg("1007").env("MAYFLY_VM_DIR", env.state().join("vms").join(id));
            sleep.env("MAYFLY_VM_PROOF", "0".repeat(64));
            match user {
                Some(user) if geteuid().is_root() => drop(sleep.uid(user).gid(user)),
                Some(_) => continue,
                None => {}
            }
            strangers.push(sleep.spawn().unwrap());
        }
    }
    let mut live_on = |what: &str| {
        for stranger in &mut strangers {
            assert!(stranger.try_wait().unwrap().is_none(), "killed by {what}");
        }
    };
    env.run(&["reap", "--dry-run"]).prints("");
    env.run(&["reap"]).prints("");
    live_on("reap");
    let vmm = env.vmm(&running);
    // Without these, an older mayfly's VM: its VMM is found by its mark.
    fs::remove_file(env.state().join("vms").join(&running).join("instance.json")).unwrap();
    fs::remove_file(env.registry()).unwrap();
    env.run(&["reap", "--rebuild"]).is(0, "", "mayfly: registry rebuilt with 2 VMs\n");
    live_on("reap --rebuild");
    assert_eq!((env.vmm(&running), env.vmm_if_any(&stopped)), (vmm, None));
    env.run(&["start", &stopped]).prints(&format!("{stopped}\n"));
    env.run(&["stop", &stopped]).prints(&format!("{stopped}\n"));
    live_on("start and stop");
    env.clear();
    live_on("rm");
    for stranger in &mut strangers {
        stranger.kill().unwrap();
        stranger.wait().unwrap();
    }
}

#[test]
fn a_manifest_that_cannot_be_read_is_reported_and_its_vm_lives_on() {
    let env = Environment::mock();
    let (living, whole) = (env.start(&[]), env.create(&[]));
    let vmm = env.vmm(&living);
    let directory = env.state().join("vms").join(&living);
    let (manifest, instance) = (directory.join("manifest.json"), directory.join("instance.json"));
    let text = fs::read_to_string(&manifest).unwrap();
    let newer =
        text.replacen('{', "{\"later\":1,", 1).split(",\"seal\"").next().unwrap().to_owned() + "}";
    let other =
        fs::read_to_string(env.state().join("vms").join(&whole).join("manifest.json")).unwrap();
    let kept = |env: &Environment, file: &Path| {
        let message = format!(
            "mayfly: VM {living} is not in the registry and was left as it is: {} is damaged, or a newer mayfly \
             wrote it: [..]\nhint: repair it[..], delete {} and run 'mayfly reap'\n",
            file.display(),
            manifest.display()
        );
        for args in [&["reap", "--rebuild"][..], &["reap"], &["reap", "--dry-run"]] {
            let rebuilt = if args.len() == 2 && args[1] == "--rebuild" {
                "mayfly: registry[..]\n"
            } else {
                ""
            };
            env.run(args).is(1, "", &format!("{rebuilt}{message}"));
            assert!(lives(vmm) && directory.exists(), "{args:?}");
        }
        assert_eq!(env.ids(), [whole.as_str()]);
    };
    for bad in
        [&text[..text.len() / 2], "", "\0\0\0", &text.replacen("1024", "2048", 1), &newer, &other]
    {
        fs::write(&manifest, bad).unwrap();
        fs::remove_file(env.registry()).unwrap();
        kept(&env, &manifest);
    }
    fs::write(&manifest, &text).unwrap();
    let was = fs::read(&instance).unwrap();
    fs::write(&instance, "{").unwrap();
    fs::remove_file(env.registry()).unwrap();
    kept(&env, &instance);

    fs::write(&instance, was).unwrap();
    env.run(&["reap", "--rebuild"]).is(0, "", "mayfly: 1 VMs added to the registry\n");
    env.run(&["reap", "--rebuild"]).is(
        0,
        "",
        "mayfly: the registry is in order; nothing to rebuild\n",
    );
    env.run(&["exec", "--keep", &living, "--", "echo", "alive"]).prints("alive\n");
    env.clear();
}

#[test]
fn without_a_manifest_what_is_left_of_a_vm_is_deleted() {
    let env = Environment::mock();
    let id = env.start(&[]);
    let vmm = env.vmm(&id);
    fs::remove_file(env.state().join("vms").join(&id).join("manifest.json")).unwrap();
    fs::remove_file(env.registry()).unwrap();
    env.run(&["reap", "--rebuild"]).is(0, "deleted[..]", "mayfly: registry rebuilt with 0 VMs\n");
    assert!(!lives(vmm));
    assert_eq!(env.leftovers(), Vec::<String>::new());
}

/// Some of them are JSON of a registry, even of one in which the VM is stopped.
#[test]
fn one_wrong_byte_in_the_registry_is_noticed() {
    let env = Environment::mock();
    let id = env.start(&[]);
    let whole = fs::read(env.registry()).unwrap();
    let pid = env.vmm(&id).to_string();
    let text = String::from_utf8(whole.clone()).unwrap();
    let last_digit = text.find(&format!("\"pid\":{pid}")).unwrap() + 5 + pid.len();
    for at in [last_digit, text.find("\"generation\":").unwrap() + 13, whole.len() - 10] {
        let mut bytes = whole.clone();
        bytes[at] = if bytes[at] == b'1' { b'2' } else { b'1' };
        fs::write(env.registry(), &bytes).unwrap();
        for args in [&["status"][..], &["reap"], &["rm", "-f", &id], &["create"]] {
            env.run(args).fails(
                1,
                "mayfly: in [..]: the registry is damaged: it does not match its seal\n\
                 hint: 'mayfly reap --rebuild'[..]\n",
            );
        }
    }
    env.run(&["reap", "--rebuild"]).is(0, "", "mayfly: registry rebuilt with 1 VMs\n");
    env.run(&["exec", "--keep", &id, "--", "echo", "alive"]).prints("alive\n");
    env.clear();
}

#[test]
fn the_vm_of_a_killed_run_is_deleted() {
    let env = Environment::mock();
    let mut run = env.live(&["run", "--", "sh", "-c", "echo ready; exec sleep 1009"]);
    run.says("ready");
    let [id] = env.ids().try_into().unwrap();
    // `reap` does not touch the VM of a running command.
    env.run(&["reap"]).prints("");
    run.kill();
    env.run(&["reap"]).prints(&format!("deleted VM {id}\n"));
    assert_eq!(env.leftovers(), Vec::<String>::new());
}

#[test]
fn a_lost_registry_is_rebuilt_from_the_manifests() {
    let env = Environment::mock();
    let (running, stopped) = (env.start(&["--name", "ci"]), env.create(&[]));
    let before = env.status("ci");
    let generation = |env: &Environment| -> u64 {
        let json: Value = serde_json::from_slice(&fs::read(env.registry()).unwrap()).unwrap();
        json["generation"].as_u64().unwrap()
    };
    let last = generation(&env);
    env.run(&["reap", "--rebuild"]).is(
        0,
        "",
        "mayfly: the registry is in order; nothing to rebuild\n",
    );
    let whole = fs::read(env.registry()).unwrap();
    fs::write(env.registry(), &whole[..whole.len() - 10]).unwrap();
    env.run(&["reap"]).fails(1, "[..]the registry is damaged[..]");
    env.run(&["reap", "--rebuild"]).is(0, "", "mayfly: registry rebuilt with 2 VMs\n");
    assert!(generation(&env) > last);
    assert_eq!(env.status("ci"), before);
    assert_eq!(env.status(&stopped)["state"], "stopped");
    env.run(&["exec", &running, "--", "echo", "alive"]).prints("alive\n");
    env.clear();
    assert!(env.state().join("registry.json.damaged").exists());
}

#[test]
fn rebuild_and_dry_run_cannot_be_combined() {
    let env = Environment::mock();
    env.run(&["reap", "--dry-run", "--rebuild"]).fails(
        2,
        "mayfly: the argument '--dry-run' cannot be used with '--rebuild'\n\
         hint: 'mayfly reap --help' shows the usage\n",
    );
}

#[test]
fn nothing_of_a_vm_outlives_its_deletion() {
    let env = Environment::mock();
    let id = env.start(&[]);
    // Processes that are still in the command's session end with it.
    let leave = "setsid sh -c 'exec > /dev/null 2>&1; touch left; exec sleep 1010' & disown
        until test -e left; do sleep 0.01; done";
    env.run(&["exec", "--keep", &id, "-c", leave]).prints("");
    assert!(processes::of_state(&env.state()).len() > 1);
    env.expire(&id);
    env.run(&["reap"]).prints(&format!("deleted VM {id}\n"));
    assert_eq!(env.leftovers(), Vec::<String>::new());
}
