//! GNU xargs with a VM for each line, several at a time.

use std::collections::BTreeSet;

use crate::support::environment::Environment;

#[test]
fn every_line_gets_its_vm_and_no_output_is_lost() {
    let env = Environment::mock();
    // echo writes a line at once.
    let script = "seq 12 | xargs -P 4 -I '{}' mayfly run -- sh -c 'echo out {}; echo err {} >&2'";
    let answer = env.run_client("bash", &["-c", script]);
    answer.is(0, "[..]", "[..]");
    let wanted = |word: &str| (1..=12).map(|n| format!("{word} {n}")).collect::<BTreeSet<_>>();
    let lines = |text: &str| text.lines().map(str::to_owned).collect::<BTreeSet<_>>();
    assert_eq!(lines(answer.stdout()), wanted("out"));
    assert_eq!(lines(answer.stderr()), wanted("err"));
    assert!(env.ids().is_empty());
}

#[test]
fn xargs_says_that_something_failed_and_goes_on_unless_it_is_255() {
    let env = Environment::mock();
    let run = |codes: &str| {
        let script = format!(
            "printf '%s\\n' {codes} | xargs -I '{{}}' mayfly run -c 'echo {{}}; exit {{}}'"
        );
        env.run_client("bash", &["-c", &script])
    };
    run("0 3 0").is(123, "0\n3\n0\n", "");
    // A failure of mayfly does not stop xargs either.
    env.run_client("bash", &["-c", "printf '%s\\n' nope none | xargs -n 1 mayfly status"]).is(
        123,
        "",
        "mayfly: no VM \"nope\"\n[..]mayfly: no VM \"none\"\n[..]",
    );
    run("0 255 0").is(124, "0\n255\n", "xargs: mayfly: exited with status 255; aborting\n");
}

#[test]
fn many_vms_are_handled_by_one_command() {
    let env = Environment::mock();
    for _ in 0..4 {
        env.create(&[]);
    }
    let script = "mayfly status --json | jq -r '.[].vm_id' | xargs mayfly start > started
        mayfly status --json | jq -r '.[] | select(.state == \"started\").vm_id' | xargs mayfly rm";
    let answer = env.run_client("bash", &["-euo", "pipefail", "-c", script]);
    answer.is(0, "[..]", "");
    assert_eq!(answer.stdout().lines().count(), 4, "{answer}");
    assert!(env.ids().is_empty());
}
