//! `mayfly reap`.

use std::fs;
use std::process::Command;

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
        json!({"deleted_vm_ids": [], "count": 0, "deleted_templates": [], "swept": []})
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
    let json = env.run(&["reap", "--json"]).json();
    assert_eq!((&json["deleted_vm_ids"], &json["count"]), (&json!(doomed), &2.into()));
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

#[test]
fn only_a_marked_process_without_a_record_is_killed() {
    let env = Environment::mock();
    let keep = env.start(&[]);
    let marked = |id: &str| {
        Command::new("sleep")
            .arg("1007")
            .env("MAYFLY_VM_DIR", env.state().join("vms").join(id))
            .spawn()
            .unwrap()
    };
    let mut stray = marked("0123456789ab");
    let mut bystander = Command::new("sleep").arg("1008").spawn().unwrap();
    env.run(&["reap", "--dry-run"]).prints(&format!("would delete process {}\n", stray.id()));
    assert!(stray.try_wait().unwrap().is_none());
    env.run(&["reap"]).prints(&format!("deleted process {}\n", stray.id()));
    assert!(stray.wait().is_ok());
    assert!(bystander.try_wait().unwrap().is_none());
    bystander.kill().unwrap();
    bystander.wait().unwrap();
    assert_eq!(env.status(&keep)["state"], "started");
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
    env.run(&["reap", "--rebuild"]).is(0, "", "the registry is in order; nothing to rebuild\n");
    let whole = fs::read(env.registry()).unwrap();
    fs::write(env.registry(), &whole[..whole.len() - 10]).unwrap();
    env.run(&["reap"]).fails(1, "[..]the registry is damaged[..]");
    env.run(&["reap", "--rebuild"]).is(0, "", "registry rebuilt with 2 VMs\n");
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
