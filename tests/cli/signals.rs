//! Signals to mayfly.

use std::time::Instant;

use nix::sys::signal::Signal;

use crate::support::environment::Environment;
use crate::support::live::Live;
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

/// Signals that a command could mean something by, by their numbers: SIGABRT, SIGUSR1, SIGUSR2, SIGALRM, SIGSTKFLT,
/// SIGVTALRM, SIGPROF, SIGIO, SIGPWR, and real-time signals.
const MEANINGFUL: [i32; 12] = [6, 10, 12, 14, 16, 26, 27, 29, 30, 34, 50, 64];

#[test]
fn every_other_signal_is_passed_on_and_the_vm_ends_with_the_command() {
    let env = Environment::mock();
    for number in MEANINGFUL {
        let mut live =
            env.live(&["run", "--", "sh", "-c", "ulimit -c 0; echo ready; exec sleep 1013"]);
        live.says("ready");
        processes::eventually("exec of sleep", || {
            processes::of_state(&env.state()).iter().any(|(_, line)| line == "sleep 1013")
        });
        live.signal_number(number);
        live.end().is(128 + number, "ready\n", "");
        assert!(env.ids().is_empty());
        assert_eq!(env.leftovers(), Vec::<String>::new());
    }
    // It does not end a command that handles it, however often it comes.
    let script = "trap 'echo caught' USR1; echo ready; while read line; do :; done; echo end";
    let script = format!("{script}; while read line; do :; done");
    let mut live = env.live(&["run", "-i", "--", "bash", "-c", &script]);
    live.says("ready");
    for count in 1..=3 {
        live.signal(Signal::SIGUSR1);
        processes::eventually("the trap", || live.said().matches("caught").count() == count);
    }
    live.close_stdin();
    live.end().is(0, "ready\ncaught\ncaught\ncaught\nend\n", "");
}

#[test]
fn a_signal_about_mayflys_own_limits_ends_run_and_its_vm() {
    let env = Environment::mock();
    for signal in [Signal::SIGXCPU, Signal::SIGXFSZ] {
        let mut live = env.live(&["run", "--", "sh", "-c", "echo ready; exec sleep 1014"]);
        live.says("ready");
        live.signal(signal);
        let message = format!("mayfly: interrupted by {}\n", signal.as_str());
        live.end().is(128 + signal as i32, "ready\n", &message);
        assert!(env.ids().is_empty());
        assert_eq!(env.leftovers(), Vec::<String>::new());
    }
}

/// mayfly, started by a shell that ignores these signals, as `nohup` ignores SIGHUP and as shells without job control
/// do with SIGINT and SIGQUIT for background jobs.
fn ignoring(env: &Environment, names: &str, args: &[&str]) -> Live {
    let script = format!("trap '' {names}; exec mayfly \"$@\"");
    Live::start(env.client("sh", &[&["-c", &script, "sh"], args].concat()))
}

#[test]
fn an_ignored_signal_stays_ignored() {
    let env = Environment::mock();
    let id = env.start(&["--keep"]);
    let names = "HUP INT QUIT USR1";
    let ignored = [Signal::SIGHUP, Signal::SIGINT, Signal::SIGQUIT, Signal::SIGUSR1];
    // The command would end by each of them.
    let script = "ulimit -c 0; echo ready; read line; echo end";
    for args in [
        &["run", "-i", "--", "sh", "-c", script][..],
        &["exec", "-i", &id, "--", "sh", "-c", script],
    ] {
        let mut live = ignoring(&env, names, args);
        live.says("ready");
        ignored.iter().for_each(|signal| live.signal(*signal));
        live.write(b"\n");
        live.end().is(0, "ready\nend\n", "");
    }
    // Others are not ignored.
    let mut live =
        ignoring(&env, "INT", &["exec", &id, "--", "sh", "-c", "echo ready; exec sleep 1015"]);
    live.says("ready");
    live.signal(Signal::SIGINT);
    live.signal(Signal::SIGTERM);
    live.end().is(143, "ready\n", "");
    // mayfly needs to know when its own children end.
    ignoring(&env, "CHLD", &["run", "--", "sh", "-c", "exit 3"]).end().is(3, "", "");
    // In the guest they have their default effect again.
    let script = "trap 'echo caught' INT; kill -INT $$";
    let live = ignoring(&env, "INT", &["exec", &id, "--", "sh", "-c", script]);
    live.end().is(0, "caught\n", "");
    env.rm(&id);
}
