//! Several commands in one VM, and what happens to them when it is stopped or deleted.

use crate::support::environment::Environment;
use crate::support::live::Live;
use crate::support::processes;

/// Starts a command in the VM that waits for a line.
fn waiting(env: &Environment, id: &str) -> Live {
    let mut live = env.live(&[
        "exec",
        "-i",
        "--keep",
        id,
        "--",
        "sh",
        "-c",
        "echo ready; read line; echo got $line",
    ]);
    live.says("ready\n");
    live
}

#[test]
fn eight_commands_run_at_once_and_the_ninth_is_told_to_wait() {
    let env = Environment::mock();
    let id = env.start(&["--keep"]);
    let mut lives: Vec<Live> = (0..8).map(|_| waiting(&env, &id)).collect();
    env.run(&["exec", &id, "--", "true"]).fails(
        125,
        "mayfly: 8 commands already run in this VM\nhint: wait for one to end, or use another VM\n",
    );
    assert_eq!(env.run(&["exec", "--json", &id, "--", "true"]).json_error(125)["kind"], "busy");
    for (n, live) in lives.iter_mut().enumerate() {
        live.write(format!("{n}\n").as_bytes());
    }
    for (n, live) in lives.into_iter().enumerate() {
        live.end().is(0, &format!("ready\ngot {n}\n"), "");
    }
    env.run(&["exec", &id, "--", "echo", "room again"]).prints("room again\n");
    env.rm(&id);
}

#[test]
fn a_killed_client_gives_its_place_back_and_the_next_is_byte_exact() {
    let env = Environment::mock();
    let id = env.start(&["--keep"]);
    for _ in 0..12 {
        let mut flood = env.live(&["exec", &id, "--", "yes", "stale"]);
        flood.says("stale");
        flood.kill();
        env.run(&["exec", &id, "--", "echo", "fresh"]).prints("fresh\n");
    }
    env.rm(&id);
}

#[test]
fn a_command_ended_by_stop_never_succeeds() {
    let env = Environment::mock();
    let id = env.start(&["--keep"]);
    let mut live = env.live(&[
        "exec",
        &id,
        "--",
        "sh",
        "-c",
        "trap '' TERM; echo ready; while :; do sleep 1; done",
    ]);
    live.says("ready");
    env.run(&["stop", "--grace", "1s", &id]).prints(&format!("{id}\n"));
    let answer = live.end();
    // Killed by the stop, or disconnected.
    assert!([125, 137].contains(&answer.code()), "{answer}");
    assert_eq!(env.status(&id)["state"], "stopped");
    assert!(processes::of_state(&env.state()).is_empty());
    env.rm(&id);
}

#[test]
fn rm_ends_a_running_command() {
    let env = Environment::mock();
    let id = env.start(&[]);
    let live = waiting(&env, &id);
    env.rm(&id);
    live.end().is(125, "ready\n", "mayfly: the VM was stopped while the command ran\n");
}

#[test]
fn a_command_whose_vm_another_command_deletes_is_lost() {
    let env = Environment::mock();
    let id = env.start(&[]);
    let mut first =
        env.live(&["exec", "-i", &id, "--", "sh", "-c", "echo ready; read line; exit 3"]);
    first.says("ready");
    env.run(&["exec", &id, "--", "true"]).prints("");
    assert!(env.ids().is_empty());
    // It reports the loss of its VM.
    first.end().is(125, "ready\n", "mayfly: the VM was stopped while the command ran\n");
}

#[test]
fn several_deletions_at_once_all_succeed() {
    let env = Environment::mock();
    for _ in 0..5 {
        let id = env.start(&[]);
        std::thread::scope(|scope| {
            let codes: Vec<_> = (0..4)
                .map(|_| scope.spawn(|| env.run(&["rm", "-f", &id]).code()))
                .collect::<Vec<_>>()
                .into_iter()
                .map(|thread| thread.join().unwrap())
                .collect();
            assert_eq!(codes, [0; 4]);
        });
        assert!(env.ids().is_empty());
    }
}

#[test]
fn starting_twice_at_once_starts_once() {
    let env = Environment::mock();
    let id = env.create(&[]);
    let mut codes: Vec<i32> = std::thread::scope(|scope| {
        let threads: Vec<_> =
            (0..4).map(|_| scope.spawn(|| env.run(&["start", &id]).code())).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    codes.sort();
    assert_eq!(codes, [0, 4, 4, 4]);
    assert_eq!(processes::of_state(&env.state()).len(), 1);
    env.rm(&id);
}
