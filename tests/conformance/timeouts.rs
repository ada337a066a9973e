//! Commands that take too long.

use std::time::Instant;

use crate::bench::Bench;

pub fn a_timeout_kills_the_tree_and_keeps_the_output(bench: &Bench) {
    let vm = bench.vm();
    // Long enough for a shell to start and print something. In a guest of a busy emulated host, that takes a second.
    let seconds = if bench.backend == "firecracker" { 10 } else { 2 };
    let limit = format!("{seconds}s");
    let timed_out = format!("mayfly: command timed out after {limit}");
    // Children, another session, and ignored signals.
    let mark = vm.mark();
    let tree = format!(
        "echo some; trap '' TERM INT HUP; setsid sleep 4201.{mark} & \
         sh -c 'sleep 4202.{mark} & wait' & sleep 4203.{mark}; wait; wait"
    );
    let asked = Instant::now();
    vm.exec(&["--keep", "--timeout", &limit, "--", "sh", "-c", &tree]).is(
        124,
        "some\n",
        &format!("{timed_out}\n"),
    );
    let took = asked.elapsed();
    assert!((seconds..seconds + 13).contains(&took.as_secs()), "took {took:?}");
    vm.loses_marked();

    let json =
        vm.exec(&["--json", "--timeout", &limit, "-c", "printf some; sleep 4204"]).json_of(124);
    assert_eq!((&json["stdout"], &json["ended_by"]), (&"some".into(), &"timeout".into()));
    assert_eq!((&json["stderr"], &json["error"]["kind"]), (&"".into(), &"timed_out".into()));
    // Endless output does not delay the timeout.
    let asked = Instant::now();
    let flood = vm.exec(&["--timeout", &limit, "--", "yes"]);
    assert_eq!(flood.code(), 124);
    assert!(flood.stdout.starts_with(b"y\ny\n"));
    assert!(flood.stderr().ends_with(&format!("{timed_out}\n")));
    assert!(asked.elapsed().as_secs() < seconds + 14, "took {:?}", asked.elapsed());
    vm.exec(&["--timeout", "5m", "--", "echo", "in time"]).prints("in time\n");
}
