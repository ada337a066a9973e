//! `mayfly exec --all`.

use std::collections::BTreeSet;
use std::io::Read;
use std::process::Stdio;

use nix::sys::signal::Signal;

use crate::support::answer::Answer;
use crate::support::environment::Environment;
use crate::support::processes::{self, eventually};
use crate::support::terminal;

/// Starts three VMs and creates a fourth.
fn crowd() -> (Environment, [String; 3]) {
    let env = Environment::mock();
    let start = |name| env.start(&["--name", name, "--label", "crowd", "--label", name]);
    let ids = [start("a"), start("bb"), start("ccc")];
    env.create(&["--name", "idle", "--label", "crowd"]);
    (env, ids)
}

/// The lines of standard output, sorted.
#[track_caller]
fn lines(answer: &Answer) -> BTreeSet<String> {
    answer.stdout().lines().map(str::to_owned).collect()
}

fn set(lines: &[&str]) -> BTreeSet<String> {
    lines.iter().map(|line| (*line).to_owned()).collect()
}

#[test]
fn every_line_names_its_vm_and_the_vms_are_deleted() {
    let (env, ids) = crowd();
    let script = "echo one; echo two >&2; printf '%s' $MAYFLY_VM";
    let answer = env.run(&["exec", "--keep", "--all", "--label", "crowd", "-c", script]);
    assert_eq!(answer.code(), 0);
    let own = ["a  ", "bb ", "ccc"].iter().zip(&ids);
    let own: Vec<String> = own.map(|(name, id)| format!("{name} | {id}")).collect();
    let own: Vec<&str> = own.iter().map(String::as_str).collect();
    let ones = ["a   | one", "bb  | one", "ccc | one"];
    assert_eq!(lines(&answer), set(&[&ones[..], &own].concat()));
    let errors: BTreeSet<String> = answer.stderr().lines().map(str::to_owned).collect();
    assert_eq!(errors, set(&["a   | two", "bb  | two", "ccc | two"]));
    assert_eq!(env.ids().len(), 4);

    let answer = env.run(&["exec", "--all", "--filter", "name=*b*", "--", "echo", "bye"]);
    answer.prints("bb | bye\n");
    assert_eq!(env.ids().len(), 3, "deleted after its command");
    let json = env.run(&["exec", "--all", "--json", "--", "echo", "hi"]).json_lines();
    let found: BTreeSet<&str> = json.iter().map(|one| one["vm_id"].as_str().unwrap()).collect();
    assert_eq!(found, [ids[0].as_str(), &ids[2]].into());
    assert!(json.iter().all(|one| one["stdout"] == "hi\n" && one["cleanup"]["deleted"] == true));
    assert_eq!(env.ids().len(), 1, "what was not started is left");
    env.clear();
}

#[test]
fn the_exit_code_is_the_highest_of_all() {
    let (env, ids) = crowd();
    let fail = |code: u8| format!("test $MAYFLY_VM = {} && exit {code}; exit 3", ids[1]);
    let run = |script: &str| env.run(&["exec", "--keep", "--all", "-c", script]);
    let answer = run(&fail(9));
    assert_eq!((answer.code(), answer.stdout()), (9, ""));
    let said: BTreeSet<String> = answer.stderr().lines().map(str::to_owned).collect();
    let codes = ["mayfly: a: exit code 3", "mayfly: bb: exit code 9", "mayfly: ccc: exit code 3"];
    assert_eq!(said, set(&codes));
    assert_eq!(run(&fail(0)).code(), 3);
    let slow = format!("test $MAYFLY_VM = {} || exit 1; echo begun; exec sleep 1021", ids[2]);
    let answer = env.run(&["exec", "--keep", "--all", "--timeout", "1s", "-c", &slow]);
    answer.is(124, "ccc | begun\n", "[..]mayfly: ccc: command timed out after 1s\n[..]");
    // mayfly fails for one VM, and the others go on.
    let kill = format!("test $MAYFLY_VM = {} || exit 0; kill -9 $PPID; sleep 1022", ids[0]);
    run(&kill).is(125, "", "mayfly: a: [..]\n[..]");
    let answer = env.run(&["exec", "--keep", "--all", "--", "no-such-program"]);
    answer.is(127, "", "mayfly: [..]: [..]no-such-program[..]\n");
    assert_eq!(answer.stderr().lines().count(), 2, "{answer}");
    env.clear();
}

#[test]
fn lines_are_whole_whatever_the_others_write() {
    let (env, _) = crowd();
    let script =
        "for i in $(seq 400); do printf '%0500d' 0; printf '%0500d\\n' 0; done; printf end";
    let answer = env.run(&["exec", "--keep", "--all", "-c", script]);
    assert_eq!(answer.code(), 0);
    let whole = "0".repeat(1000);
    for name in ["a  ", "bb ", "ccc"] {
        let own: Vec<&str> =
            answer.stdout().lines().filter_map(|line| line.strip_prefix(name)).collect();
        assert_eq!(own.len(), 401);
        assert!(own[..400].iter().all(|line| line.strip_prefix(" | ") == Some(&whole)));
        assert_eq!(own[400], " | end");
    }
    assert_eq!(answer.stdout().lines().count(), 1203);
    env.clear();
}

#[test]
fn a_vm_deleted_meanwhile_is_a_failure_and_others_go_on() {
    let (env, ids) = crowd();
    let go = env.root().join("go");
    let script = format!("echo $MAYFLY_VM; until test -e '{}'; do sleep 0.01; done", go.display());
    let live = env.live(&["exec", "--keep", "--all", "-j", "1", "-c", &script]);
    eventually("the first", || live.said().contains(&ids[0]));
    env.run(&["rm", "-f", "bb"]).prints("bb\n");
    std::fs::write(go, "").unwrap();
    let answer = live.end();
    let expected = format!("a   | {}\nccc | {}\n", ids[0], ids[2]);
    answer.is(125, &expected, "mayfly: bb: [..]\nhint: [..]\n");
    env.clear();
}

#[test]
fn what_cannot_be_is_refused() {
    let (env, ids) = crowd();
    for args in [
        &["exec", "--all", "-i", "--", "true"][..],
        &["exec", "--all", "-t", "--", "true"],
        &["exec", "--all", "-t"],
        &["exec", "--all", &ids[0], "--", "true"],
        &["exec", "--label", "crowd", &ids[0], "--", "true"],
        &["exec", "-j", "2", &ids[0], "--", "true"],
        &["exec", "--all", "-j", "0", "--", "true"],
        &["exec", "--all", "-j", "33", "--", "true"],
        &["exec", "--all"],
        &["exec", "--", "true"],
    ] {
        env.run(args).fails(125, "mayfly: [..]\nhint: [..]\n");
    }
    let none = "mayfly: no VM to run the command in\nhint: [..]\n";
    env.run(&["exec", "--all", "--label", "nobody", "--", "true"]).fails(125, none);
    env.run(&["exec", "--all", "--filter", "state=created", "--", "true"]).fails(125, none);
    assert_eq!(env.ids().len(), 4);
    env.clear();
}

#[test]
fn a_signal_reaches_all_and_nothing_more_begins() {
    let (env, _) = crowd();
    let script = "ulimit -c 0; echo ready; exec sleep 1023";
    let mut live = env.live(&["exec", "--keep", "--all", "-j", "2", "-c", script]);
    let ready = |live: &crate::support::live::Live| live.said().matches("ready\n").count();
    eventually("two that work", || ready(&live) == 2 || !live.is_running());
    eventually("two sleeps", || {
        let all = processes::of_state(&env.state());
        all.iter().filter(|(_, line)| line == "sleep 1023").count() == 2
    });
    live.signal(Signal::SIGINT);
    let answer = live.end();
    assert_eq!(answer.code(), 130, "{answer}");
    assert_eq!(answer.stdout().lines().count(), 2, "{answer}");
    assert!(answer.stderr().contains("interrupted by SIGINT"), "{answer}");
    assert_eq!(processes::of_state(&env.state()).len(), 3, "agents only");
    env.clear();
}

#[test]
fn a_closed_pipe_ends_all_commands() {
    let (env, _) = crowd();
    let mut command = env.command(&["exec", "--keep", "--all", "--", "yes"]);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn().unwrap();
    let mut stdout = child.stdout.take().unwrap();
    stdout.read_exact(&mut [0; 1 << 16]).unwrap();
    drop(stdout);
    let mut code = None;
    eventually("its end", || {
        code = child.try_wait().unwrap();
        code.is_some()
    });
    assert_eq!(code.unwrap().code(), Some(141));
    env.clear();
}

#[test]
fn on_a_terminal_no_vm_can_imitate_another() {
    let (env, _) = crowd();
    let (mut ours, theirs) = terminal::open();
    let forge = "printf '\\033[2K\\rccc | forged\\n'";
    let args = ["exec", "--keep", "--all", "--label", "a", "-c", forge];
    let mut command = env.command(&args);
    command.stdin(Stdio::null()).stdout(theirs).stderr(Stdio::null());
    assert!(command.status().unwrap().success());
    drop(command);
    let mut seen = Vec::new();
    let _ = ours.read_to_end(&mut seen);
    assert_eq!(str::from_utf8(&seen).unwrap(), "a | \\u{1b}[2K\\u{d}ccc | forged\r\n");
    // Off a terminal, output is not escaped.
    env.run(&args).prints("a | \u{1b}[2K\rccc | forged\n");
    env.clear();
}
