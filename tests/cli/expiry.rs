//! Commands that end because their VM does.

use std::process::Stdio;
use std::time::{Duration, Instant};

use crate::support::environment::Environment;
use crate::support::processes::{self, eventually};

/// An environment in which VMs may live for seconds.
fn brief() -> Environment {
    let mut env = Environment::mock();
    env.profiles("[limits]\nttl_seconds = { min = 1, max = 3600 }\n");
    env
}

const EXPIRED: &str = "mayfly: the VM expired while the command ran\nhint: 'mayfly extend' or '--ttl' gives a VM more time\n";

#[test]
fn a_command_that_ends_with_its_vms_time_says_so() {
    let env = brief();
    env.run(&["run", "--ttl", "2s", "--", "sleep", "1401"]).is(124, "", EXPIRED);
    // Whatever it makes of the signal.
    let trap = "trap 'exit 0' TERM; echo some; exec 2> /dev/null; while :; do sleep 0.1; done";
    env.run(&["run", "--ttl", "2s", "--", "sh", "-c", trap]).is(124, "some\n", EXPIRED);
    let id = env.start(&["--ttl", "3s", "--keep"]);
    let json = env.run(&["exec", "--json", &id, "-c", "printf some; sleep 1402"]).json_of(124);
    let printed = (&json["stdout"], &json["stderr"], &json["ended_by"]);
    assert_eq!(printed, (&"some".into(), &"".into(), &"ttl".into()), "{json}");
    let (error, hint) = (json["error"]["message"].as_str(), json["error"]["hint"].as_str());
    assert_eq!(format!("mayfly: {}\nhint: {}\n", error.unwrap(), hint.unwrap()), EXPIRED);
    env.run(&["reap"]).prints("[..]");
    // One that ends by itself is not concerned.
    let json = env.run(&["run", "--json", "--ttl", "5s", "--", "sh", "-c", "exit 7"]).json_of(7);
    assert_eq!((&json["ended_by"], &json["error"]), (&"exit".into(), &serde_json::Value::Null));
    let json = env.run(&["run", "--json", "--timeout", "1s", "--", "sleep", "1403"]).json_of(124);
    assert_eq!(json["ended_by"], "timeout");
    let json = env.run(&["run", "--json", "-c", "kill -KILL $$"]).json_of(137);
    assert_eq!(json["ended_by"], "signal");
}

#[test]
fn more_time_reaches_a_command_that_runs() {
    let env = brief();
    let id = env.start(&["--ttl", "3s"]);
    let begun = Instant::now();
    let mut live = env.live(&["exec", &id, "--", "sh", "-c", "echo ready; sleep 6; echo done"]);
    live.says("ready");
    env.run(&["extend", &id, "5m"]).prints(&format!("{id}\n"));
    live.end().prints("ready\ndone\n");
    assert!(begun.elapsed() > Duration::from_secs(5));
}

#[test]
fn a_log_is_followed_until_its_vm_expires() {
    let env = brief();
    let id = env.start(&["--ttl", "3s"]);
    env.live(&["logs", "-f", &id]).end().is(0, "[..]", "");
    env.run(&["reap"]).prints(&format!("deleted VM {id}\n"));
}

#[test]
fn a_command_whose_vm_is_stopped_says_so() {
    let env = Environment::mock();
    let stopped = "mayfly: the VM was stopped while the command ran\n";
    let id = env.start(&[]);
    for verb in ["stop", "rm"] {
        let mut live = env.live(&["exec", &id, "--", "sh", "-c", "echo ready; sleep 1404"]);
        live.says("ready");
        env.run(&[verb, &id]).prints(&format!("{id}\n"));
        live.end().is(125, "ready\n", stopped);
        if verb == "stop" {
            assert_eq!(env.status(&id)["state"], "stopped", "it is not deleted");
            env.run(&["start", &id]).prints(&format!("{id}\n"));
        }
    }
    let id = env.start(&[]);
    let live = env.live(&["exec", "--json", &id, "--", "sleep", "1405"]);
    eventually("the command", || {
        processes::of_state(&env.state()).iter().any(|(_, line)| line == "sleep 1405")
    });
    env.rm(&id);
    assert_eq!(live.end().json_of(125)["ended_by"], "stopped");
}

#[test]
fn run_takes_the_time_it_needs() {
    let env = Environment::mock();
    let ttl = |flags: &[&str]| {
        let run = [&["run", "--keep", "--name", "box"], flags, &["--", "true"]].concat();
        env.run(&run).is(0, "", "mayfly: kept VM [..]\n");
        let ttl = env.status("box")["ttl_seconds"].as_u64().unwrap();
        env.rm("box");
        ttl
    };
    assert_eq!(ttl(&[]), 600);
    assert_eq!(ttl(&["--timeout", "1m"]), 600);
    assert_eq!(ttl(&["--timeout", "20m"]), 1500);
    assert_eq!(ttl(&["--timeout", "20m", "--ttl", "60s"]), 1500);
    assert_eq!(ttl(&["--timeout", "20m", "--ttl", "21m"]), 1260);
    assert_eq!(ttl(&["--timeout", "1h"]), 3600);
    env.run(&["run", "--timeout", "1h1s", "--", "true"]).fails(
        125,
        "mayfly: --timeout must be at most 1h, which is how long a VM may live, not 1h1s\n\
         hint: raise [limits] ttl_seconds in [..]/profiles.toml\n",
    );
}

#[test]
fn a_reader_that_stops_does_not_extend_a_timeout() {
    let env = Environment::mock();
    for _ in 0..3 {
        env.start(&["--keep"]);
    }
    for args in [
        &["exec", "--all", "--timeout", "1s", "--", "yes"][..],
        &["run", "--timeout", "1s", "--", "yes"],
        &["run", "--timeout", "1s", "--", "sh", "-c", "yes >&2"],
    ] {
        let mut command = env.command(args);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let begun = Instant::now();
        let mut child = command.spawn().unwrap();
        // Its output is not read.
        let status = child.wait().unwrap();
        assert_eq!(status.code(), Some(124), "{args:?}");
        assert!(begun.elapsed() < Duration::from_secs(15), "{args:?}: {:?}", begun.elapsed());
    }
    env.clear();
}
