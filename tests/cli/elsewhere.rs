//! VMs of other hosts and of other pid namespaces, in a state directory that they share.

use std::process::Command;

use nix::unistd::geteuid;
use serde_json::{Value, json};

use crate::support::answer::Answer;
use crate::support::environment::Environment;
use crate::support::live::Live;
use crate::support::processes::lives;
use crate::support::skip::skipped;

/// Where else a command can run.
#[derive(Debug, Clone, Copy)]
enum Place {
    Container,
    OtherHost,
}

impl Place {
    /// mayfly, or a script that calls it, at this place.
    fn command(self, env: &Environment, script: &str, args: &[&str]) -> Command {
        let boot = env.file("boot_id", "11111111-2222-3333-4444-555555555555\n");
        let (flags, script) = match self {
            Place::Container => (
                &["--pid", "--fork", "--kill-child", "--mount-proc", "--uts"][..],
                script.to_owned(),
            ),
            Place::OtherHost => (
                &["--uts", "--mount"][..],
                format!(
                    "mount --bind {} /proc/sys/kernel/random/boot_id; {script}",
                    boot.display()
                ),
            ),
        };
        let script = format!("hostname node-7; {script}");
        let all = [flags, &["sh", "-ec", &script, "sh"], args].concat();
        env.client("unshare", &all)
    }

    fn run(self, env: &Environment, args: &[&str]) -> Answer {
        let command = self.command(env, "exec mayfly \"$@\"", args);
        let output = assert_cmd::Command::from_std(command).output().unwrap();
        Answer::new(format!("{self:?}: {args:?}"), output)
    }
}

/// Reports a machine on which the places cannot be had.
fn cannot_be_there() -> bool {
    let is_root = geteuid().is_root();
    if !is_root {
        skipped("only root can make these namespaces");
    }
    !is_root
}

/// Every verb refuses the VM with exit code 5 and the name of the host, and leaves it alone.
fn everything_refuses(run: impl Fn(&[&str]) -> Answer, id: &str, host: &str) {
    let message = format!(
        "mayfly: VM {id} runs elsewhere: on host {host}, in pid namespace [..]\nhint: use mayfly there; [..]\n"
    );
    let verbs: [&[&str]; 8] = [
        &["start", id],
        &["stop", id],
        &["rm", id],
        &["rm", "-f", id],
        &["extend", id, "20m"],
        &["rename", id, "other"],
        &["stop", "--all"],
        &["rm", "--all"],
    ];
    for args in verbs {
        run(args).fails(5, &message);
    }
    let file = format!("{id}:/etc/hostname");
    for args in [&["exec", id, "--", "true"][..], &["cp", &file, "-"]] {
        let (code, start) =
            if args[0] == "cp" { (5, "mayfly: cannot copy [..]: ") } else { (125, "mayfly: ") };
        run(args).fails(code, &message.replacen("mayfly: ", start, 1));
    }
    run(&["reap"]).prints("");
    run(&["reap", "--dry-run"]).prints("");
    run(&["reap", "--rebuild"]).is(0, "", "mayfly: the registry is in order; nothing to rebuild\n");
    run(&["logs", id]).prints("[..]");
    run(&["status"]).prints(&format!("VM[..]\n{id}[..] elsewhere ({host}) [..]\n"));
    let seen = run(&["status", "--json", id]).json();
    assert_eq!((&seen["state"], &seen["host"]), (&json!("elsewhere"), &json!(host)));
    assert_eq!(run(&["status", "-q", "--filter", "state=elsewhere"]).line(), id);
    // It takes up its place among the VMs, and `create` does not make room.
    let other = run(&["create"]).line();
    run(&["rm", &other]).prints(&format!("{other}\n"));
}

#[test]
fn a_vm_of_this_place_is_left_alone_elsewhere() {
    if cannot_be_there() {
        return;
    }
    let env = Environment::mock();
    let id = env.start(&[]);
    let vmm = env.vmm(&id);
    let host = nix::unistd::gethostname().unwrap().into_string().unwrap();
    for place in [Place::Container, Place::OtherHost] {
        everything_refuses(|args| place.run(&env, args), &id, &host);
        assert!(lives(vmm), "{place:?}");
        // The VM's own host ends it at its end, not others.
        let before = env.status(&id)["expires_at"].clone();
        assert!(before.is_number());
    }
    assert_eq!(env.status(&id)["host"], Value::Null);
    env.run(&["reap"]).prints("");
    env.run(&["exec", "--keep", &id, "--", "echo", "alive"]).prints("alive\n");

    // The registry is lost. Elsewhere, nothing shows that the VMM runs but its own note.
    for place in [Place::Container, Place::OtherHost] {
        std::fs::remove_file(env.registry()).unwrap();
        place.run(&env, &["reap", "--rebuild"]).is(0, "", "mayfly: registry rebuilt with 1 VMs\n");
        place.run(&env, &["start", &id]).fails(5, "[..] runs elsewhere: [..]");
    }
    env.run(&["exec", "--keep", &id, "--", "echo", "alive"]).prints("alive\n");
    env.rm(&id);
}

#[test]
fn a_renamed_host_keeps_its_vms() {
    if cannot_be_there() {
        return;
    }
    let env = Environment::mock();
    let id = env.start(&[]);
    let script = "hostname renamed; exec mayfly exec --keep \"$1\" -- echo alive";
    let renamed = env.run_client("unshare", &["--uts", "sh", "-ec", script, "sh", &id]);
    renamed.prints("alive\n");
    env.rm(&id);
}

#[test]
fn a_vm_of_a_container_is_left_alone_outside_until_a_minute_after_its_end() {
    if cannot_be_there() {
        return;
    }
    let env = Environment::mock();
    let id = env.create(&[]);
    let script = "mayfly start \"$1\"; mayfly run -- sh -c 'echo up; exec sleep 1014' & read line";
    let mut container = Live::start(Place::Container.command(&env, script, &[&id]));
    container.says(&id);
    container.says("up");
    let both = env.ids();
    let [_, run] = both.as_slice() else { panic!("{both:?}") };
    // Its owner is elsewhere too, so the VM of a `run` is no leftover.
    everything_refuses_each(&env, &[&id, run]);
    for (seconds, code) in [(-30.0, 0), (30.0, 5)] {
        env.expire_since(&id, seconds);
        env.run(&["reap"]).prints("");
        assert_eq!(env.run(&["status", &id]).code(), code);
    }
    container.kill();
    env.expire_since(&id, 61.0);
    env.expire_since(run, 61.0);
    let mut doomed = [id.as_str(), run];
    doomed.sort_unstable();
    let [first, second] = doomed;
    env.run(&["reap"]).prints(&format!("deleted VM {first}\ndeleted VM {second}\n"));
    assert_eq!(env.leftovers(), Vec::<String>::new());
}

fn everything_refuses_each(env: &Environment, ids: &[&str]) {
    env.run(&["reap"]).prints("");
    for id in ids {
        let elsewhere = format!("mayfly: VM {id} runs elsewhere: on host node-7, [..]");
        for verb in ["start", "stop", "rm"] {
            env.run(&[verb, id]).fails(5, &elsewhere);
        }
        env.run(&["exec", id, "--", "true"]).fails(125, &elsewhere);
        assert_eq!(env.status(id)["host"], "node-7");
    }
}

/// Hosts may not see each other's locks, so that the lock of a busy VM looks free.
#[test]
fn what_a_command_on_another_host_is_doing_is_left_alone() {
    let env = Environment::mock();
    for state in [
        json!({"phase": "creating"}),
        json!({"phase": "starting", "instance": null}),
        json!({"phase": "removing", "instance": null, "reason": "explicit_delete"}),
    ] {
        let id = env.create(&[]);
        let place = json!({"host": "node-7", "machine_id": "1", "pid_namespace": 1});
        let command = json!({"pid": 1, "start_ticks": 1, "boot_id": "other", "place": place});
        env.edit_registry(|registry| {
            registry["vms"][&id]["state"] = state.clone();
            registry["vms"][&id]["command"] = command.clone();
        });
        env.run(&["reap"]).prints("");
        for verb in ["start", "stop", "rm"] {
            env.run(&[verb, &id]).fails(5, "[..] runs elsewhere: on host node-7, [..]");
        }
        let waited = env.run(&["wait", "--timeout", "1s", &id]);
        waited.fails(4, &format!("mayfly: VM {id} is still [..]"));
        assert!(env.state().join("vms").join(&id).exists());
        let other = env.create(&[]);
        env.rm(&other);
        assert_eq!(env.ids(), [id.as_str()]);
        env.expire_since(&id, 61.0);
        env.run(&["reap"]).prints(&format!("deleted VM {id}\n"));
    }
}

/// Without `--mount-proc`, the pids in /proc are not those of the namespace.
#[test]
fn a_wrong_proc_is_refused() {
    if cannot_be_there() {
        return;
    }
    let env = Environment::mock();
    let id = env.start(&[]);
    let answer = env.run_client("unshare", &["--pid", "--fork", "mayfly", "reap"]);
    answer.fails(6, "mayfly: /proc shows the processes of another pid namespace\nhint: [..]\n");
    env.run(&["exec", "--keep", &id, "--", "echo", "alive"]).prints("alive\n");
    env.rm(&id);
}
