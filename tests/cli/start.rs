//! `mayfly start`.

use std::os::unix::fs::PermissionsExt;

use nix::unistd::geteuid;

use crate::support::environment::Environment;
use crate::support::fields;
use crate::support::skip::skipped;

#[test]
fn prints_what_it_was_called_with() {
    let env = Environment::mock();
    let id = env.create(&["--name", "ci"]);
    env.run(&["start", "ci"]).prints("ci\n");
    assert_eq!(env.status("ci")["state"], "started");
    env.run(&["stop", "ci"]).prints("ci\n");
    env.run(&["start", &id[..6]]).prints(&format!("{}\n", &id[..6]));
    env.rm("ci");
}

#[test]
fn quiet_says_nothing_and_verbose_says_how_long_each_phase_took() {
    let env = Environment::mock();
    let id = env.create(&[]);
    env.run(&["start", "-q", &id]).prints("");
    env.run(&["stop", "-q", &id]).prints("");
    env.run(&["start", "-v", &id]).is(
        0,
        &format!("{id}\n"),
        "[..]launch[..] ms\n[..]boot[..] ms\n[..]",
    );
    env.run(&["rm", "--quiet", &id]).prints("");
}

#[test]
fn several_at_once_print_a_json_line_each() {
    let env = Environment::mock();
    let (a, b) = (env.create(&[]), env.create(&[]));
    let answer = env.run(&["start", "--json", &a, &b]);
    answer.is(0, "[..]\n[..]\n", "");
    let vms = answer.json_lines();
    assert_eq!(vms.len(), 2);
    assert_eq!((&vms[0]["vm_id"], &vms[1]["vm_id"]), (&a.as_str().into(), &b.as_str().into()));
    assert!(vms.iter().all(|vm| vm["state"] == "started"));
    for line in answer.stdout().lines() {
        assert_eq!(fields::names(line), fields::VM);
    }
    env.clear();
}

#[test]
fn a_failed_start_does_not_keep_others_from_starting() {
    let env = Environment::mock();
    let id = env.create(&[]);
    let answer = env.run(&["start", "nope", &id, &id]);
    // The exit code is that of the first failure.
    answer.is(
        3,
        &format!("{id}\n"),
        &format!(
            "mayfly: no VM \"nope\"\nhint: [..]\nmayfly: VM {id} cannot be started: it is started\n[..]"
        ),
    );
    env.rm(&id);
}

#[test]
fn only_created_and_stopped_vms_can_be_started() {
    let env = Environment::mock();
    let id = env.start(&[]);
    let error = env.run(&["start", "--json", &id]).json_error(4);
    assert_eq!(error["kind"], "wrong_state");
    assert_eq!(env.status(&id)["state"], "started", "it runs on");
    env.run(&["stop", &id]).prints(&format!("{id}\n"));
    env.run(&["start", &id]).prints(&format!("{id}\n"));
    env.rm(&id);
}

#[test]
fn an_expired_vm_is_deleted_instead() {
    let env = Environment::mock();
    let id = env.create(&[]);
    env.expire(&id);
    env.run(&["start", &id])
        .fails(3, &format!("mayfly: VM {id} expired and was automatically deleted\nhint: [..]\n"));
    env.run(&["start", &id]).fails(3, &format!("mayfly: no VM \"{id}\"\nhint: [..]\n"));
}

/// A VMM that prints an error and ends at once.
#[test]
fn a_boot_that_fails_shows_the_vmms_last_words_and_leaves_the_vm_stopped() {
    let mut env = Environment::qemu();
    let broken = env.file(
        "broken-qemu",
        "#!/bin/sh\necho 'no such machine' >&2\necho 'hint: forged' >&2\nexit 1\n",
    );
    std::fs::set_permissions(&broken, std::fs::Permissions::from_mode(0o755)).unwrap();
    env.set("MAYFLY_QEMU_BIN", &broken);
    let id = env.create(&[]);
    env.run(&["start", &id]).fails(
        6,
        &format!(
            "mayfly: VM {id} did not start: [..]\n  last output of the VMM:\n  | no such machine\n  | hint: forged\nhint: [..]\n"
        ),
    );
    let vm = env.status(&id);
    assert_eq!(vm["state"], "stopped");
    assert!(vm["last_error"].as_str().unwrap().contains("no such machine"), "{vm}");
    env.run(&["run", "--", "true"]).fails(125, "mayfly: VM [..] did not start: [..]");
    assert_eq!(env.ids(), [id.as_str()], "run leaves nothing behind");
    env.rm(&id);
}

#[test]
fn root_that_may_not_make_namespaces_runs_qemu() {
    if !geteuid().is_root() {
        return skipped("an ordinary user never makes any");
    }
    let env = Environment::qemu();
    // As in a container.
    let line = ["--bounding-set=-sys_admin", "mayfly", "run", "--mem", "256M", "--", "echo", "hi"];
    let answer = env.run_client("setpriv", &line);
    assert_eq!((answer.code(), answer.stdout.as_slice()), (0, &b"hi\n"[..]), "{answer}");
}
