//! A network helper on record ends with its VM, whichever verb finds it. The helper is a stand-in, beside a VM of the
//! mock backend.

use std::process::{Child, Command, Stdio};

use mayfly::host::process;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;

use crate::support::environment::Environment;
use crate::support::processes::{eventually, lives};

/// A process that does not end by itself; killed when dropped.
struct StandIn(Child);

impl StandIn {
    fn new() -> StandIn {
        StandIn(Command::new("sleep").arg("1000").stdin(Stdio::null()).spawn().unwrap())
    }

    fn pid(&self) -> i32 {
        self.0.id() as i32
    }

    /// Records it as the helper of a VM with a network.
    fn join(&self, env: &Environment, id: &str) {
        let process = process::identify(self.pid()).unwrap();
        env.edit_registry(|registry| {
            let vm = &mut registry["vms"][id];
            vm["state"]["instance"]["network"] = json!({ "process": process });
            vm["manifest"]["network"] = json!({ "mode": "egress", "allow": [], "publish": [] });
        });
    }
}

impl Drop for StandIn {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn end(pid: i32) {
    kill(Pid::from_raw(pid), Signal::SIGKILL).unwrap();
    eventually("its end", || !lives(pid));
}

#[test]
fn every_verb_that_ends_a_vm_ends_its_helper() {
    let env = Environment::mock();
    for is_crashed in [false, true] {
        for verb in ["stop", "rm", "start", "exec", "reap"] {
            if !is_crashed && ["start", "exec", "reap"].contains(&verb) {
                continue;
            }
            let (id, helper) = (env.start(&["--keep"]), StandIn::new());
            helper.join(&env, &id);
            assert_eq!(env.status(&id)["network"]["state"], "up");
            if is_crashed {
                end(env.vmm(&id));
                assert_eq!(env.status(&id)["network"]["state"], "none");
            }
            let answer = match verb {
                "reap" => env.run(&["reap"]),
                "exec" => env.run(&["exec", &id, "--", "true"]),
                _ => env.run(&[verb, &id]),
            };
            let code = match verb {
                // It only reads: the next verb that changes the VM settles it.
                "exec" => 125,
                // Mock cannot give a VM a network.
                "start" => 6,
                _ => 0,
            };
            assert_eq!(answer.code(), code, "{answer}");
            if verb == "exec" {
                env.run(&["reap"]).prints("");
            }
            assert!(!lives(helper.pid()), "crashed: {is_crashed}: {verb} left the helper");
            if verb != "rm" {
                env.rm(&id);
            }
        }
    }
}

#[test]
fn a_helper_that_cannot_be_replaced_does_not_keep_commands_from_running() {
    let env = Environment::mock();
    let (id, helper) = (env.start(&["--keep", "--name", "box"]), StandIn::new());
    helper.join(&env, &id);
    env.run(&["exec", "box", "--", "echo", "hi"]).is(0, "hi\n", "");
    end(helper.pid());
    assert_eq!(env.status(&id)["network"]["state"], "lost");
    let table = env.run(&["status"]);
    assert!(table.stdout().contains("  lost  "), "{table}");
    let shown = env.run(&["inspect", "box"]);
    assert!(shown.stdout().contains("egress, lost: the next exec"), "{shown}");
    let said = "mayfly: VM box has lost its network: its helper cannot be started again[..]\n";
    env.run(&["exec", "box", "--", "echo", "hi"]).is(0, "hi\n", said);
    let file = env.file("notes", "hello\n");
    env.run(&["cp", file.to_str().unwrap(), "box:"]).is(0, "", said);
    env.run(&["exec", "--all", "--", "true"]).is(0, "", said);
    env.rm("box");
}
