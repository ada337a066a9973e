//! Signals to mayfly.

use std::time::Instant;

use nix::sys::signal::Signal;

use crate::support::environment::Environment;
use crate::support::processes;

const ASKING: [(Signal, &str, i32); 4] = [
    (Signal::SIGINT, "INT", 130),
    (Signal::SIGTERM, "TERM", 143),
    (Signal::SIGHUP, "HUP", 129),
    (Signal::SIGQUIT, "QUIT", 131),
];

#[test]
fn a_signal_is_passed_on_and_ends_the_command() {
    let env = Environment::mock();
    let id = env.start(&["--keep"]);
    for (signal, _, code) in ASKING {
        let mut live =
            env.live(&["exec", &id, "--", "sh", "-c", "ulimit -c 0; echo ready; exec sleep 1011"]);
        live.says("ready");
        // The name shows when `sleep` has replaced the shell.
        processes::eventually("exec of sleep", || {
            processes::of_state(&env.state()).iter().any(|(_, line)| line == "sleep 1011")
        });
        live.signal(signal);
        live.end().is(code, "ready\n", "");
    }
    assert_eq!(processes::of_state(&env.state()).len(), 1, "only the agent is left");
    env.rm(&id);
}

#[test]
fn a_command_may_handle_a_signal_and_choose_its_exit_code() {
    let env = Environment::mock();
    let id = env.start(&["--keep"]);
    for (signal, name, _) in ASKING {
        let script =
            format!("trap 'echo caught; exit 9' {name}; echo ready; while :; do sleep 0.05; done");
        // A shell may print the signal that killed its sleep.
        let script = format!("exec 2> /dev/null; {script}");
        let mut live = env.live(&["exec", &id, "--", "sh", "-c", &script]);
        live.says("ready");
        live.signal(signal);
        live.end().is(9, "ready\ncaught\n", "");
    }
    env.rm(&id);
}

#[test]
fn run_cleans_up_after_every_signal() {
    let env = Environment::mock();
    for (signal, _, code) in ASKING {
        let mut live =
            env.live(&["run", "--", "sh", "-c", "ulimit -c 0; echo ready; exec sleep 1012"]);
        live.says("ready");
        processes::eventually("exec of sleep", || {
            processes::of_state(&env.state()).iter().any(|(_, line)| line == "sleep 1012")
        });
        live.signal(signal);
        live.end().is(code, "ready\n", "");
        assert!(env.ids().is_empty());
        assert_eq!(env.leftovers(), Vec::<String>::new());
    }
}

#[test]
fn the_second_ctrl_c_gives_up_on_a_command_that_ignores_the_first() {
    let env = Environment::mock();
    for second in [Signal::SIGINT, Signal::SIGTERM] {
        let deaf = "trap '' INT TERM; echo ready; while :; do sleep 0.05; done";
        let mut live = env.live(&["run", "--", "sh", "-c", deaf]);
        live.says("ready");
        live.signal(Signal::SIGINT);
        // Pending signals are merged, so the second must come after the first was received.
        processes::eventually("the first signal to be taken", || {
            let pending = processes::status_field(live.pid(), "ShdPnd");
            u64::from_str_radix(&pending, 16).unwrap() & 0b10 == 0
        });
        assert!(live.is_running());
        let begun = Instant::now();
        live.signal(second);
        let answer = live.end();
        answer.is(128 + second as i32, "ready\n", "mayfly: interrupted by SIG[..]\n");
        assert!(begun.elapsed().as_secs() < 10);
        assert!(env.ids().is_empty(), "run cleans up all the same");
        assert_eq!(env.leftovers(), Vec::<String>::new());
    }
}

#[test]
fn the_second_ctrl_c_of_exec_leaves_the_vm() {
    let env = Environment::mock();
    let id = env.start(&[]);
    let mut live = env.live(&[
        "exec",
        "--json",
        &id,
        "--",
        "sh",
        "-c",
        "trap '' INT; touch ready; while :; do sleep 0.05; done",
    ]);
    let ready = env.state().join("vms").join(&id).join("work/ready");
    processes::eventually("the trap", || ready.exists());
    live.signal(Signal::SIGINT);
    processes::eventually("the first signal to be taken", || {
        let pending = processes::status_field(live.pid(), "ShdPnd");
        u64::from_str_radix(&pending, 16).unwrap() & 0b10 == 0
    });
    assert!(live.is_running());
    live.signal(Signal::SIGINT);
    assert_eq!(live.end().json_error(130)["kind"], "interrupted");
    assert_eq!(env.status(&id)["state"], "started");
    env.rm(&id);
}

#[test]
fn nohup_is_respected() {
    // `nohup` ignores SIGHUP before it starts a program, which must not change that.
    let env = Environment::mock();
    let mut live = env.live(&["run", "-i", "--", "sh", "-c", "echo ready; read line; echo end"]);
    live.says("ready");
    live.write(b"\n");
    live.end().is(0, "ready\nend\n", "");
}
