//! Which VMs are kept after a command.

use std::io::Read;
use std::process::Stdio;

use crate::support::environment::Environment;
use crate::support::live::Live;
use crate::support::terminal;

/// Whether a VM that `create` made still exists after a command.
fn survives(env: &Environment, create: &[&str], exec: &[&str]) -> bool {
    let id = env.start(create);
    env.run(&[&["exec"], exec, &[&id, "--", "true"]].concat()).prints("");
    let kept = !env.ids().is_empty();
    env.clear();
    kept
}

#[test]
fn a_vm_is_deleted_unless_something_says_otherwise() {
    let mut env = Environment::mock();
    assert!(!survives(&env, &[], &[]));
    assert!(survives(&env, &[], &["--keep"]));
    assert!(survives(&env, &["--keep"], &[]));
    env.profiles("[profiles.debian-git]\nkeep = true\n");
    assert!(survives(&env, &["-p", "debian-git"], &[]));
    assert!(!survives(&env, &["-p", "debian-base"], &[]));
}

#[test]
fn rm_deletes_whatever_else_says_so() {
    let mut env = Environment::mock();
    assert!(!survives(&env, &[], &["--rm"]));
    assert!(!survives(&env, &["--keep"], &["--rm"]));
    assert!(survives(&env, &["--keep"], &["--keep=no"]));
    env.profiles("[profiles.debian-git]\nkeep = true\n");
    assert!(!survives(&env, &["-p", "debian-git"], &["--rm"]));
    env.run(&["run", "--rm", "-p", "debian-git", "true"]).prints("");
    assert!(env.ids().is_empty());
    env.set("MAYFLY_KEEP", "1");
    assert!(!survives(&env, &[], &["--rm"]));
    env.run(&["run", "--rm", "true"]).prints("");
    assert!(env.ids().is_empty());
    let both = "mayfly: '--rm' cannot be used with '--keep'\nhint: leave out one of them\n";
    env.run(&["run", "--rm", "--keep", "true"]).fails(125, both);
    env.run(&["exec", "--keep", "--rm", "box", "true"]).fails(125, both);
}

#[test]
fn only_true_values_of_the_variable_keep_a_vm() {
    let mut env = Environment::mock();
    for (value, kept) in [
        ("1", true),
        ("true", true),
        ("yes", true),
        ("0", false),
        ("", false),
        ("false", false),
        ("no", false),
    ] {
        let id = env.start(&[]);
        env.set("MAYFLY_KEEP", value);
        env.run(&["exec", &id, "--", "true"]).prints("");
        assert_eq!(!env.ids().is_empty(), kept, "MAYFLY_KEEP={value}");
        env.unset("MAYFLY_KEEP");
        env.clear();
    }
}

#[test]
fn a_kept_vm_can_be_used_again() {
    let env = Environment::mock();
    let id = env.start(&[]);
    for n in 1..4 {
        env.run(&["exec", "--keep", &id, "-c", "echo x >> count; wc -l < count"])
            .prints(&format!("{n}\n"));
    }
    env.run(&["exec", &id, "-c", "wc -l < count"]).prints("3\n");
    assert!(env.ids().is_empty());
}

#[test]
fn run_keeps_its_vm_if_told_to_and_names_it() {
    let env = Environment::mock();
    env.run(&["run", "--keep", "--name", "kept", "--", "echo", "hi"]).is(
        0,
        "hi\n",
        "mayfly: kept VM [..] for [..]m[..]s: 'mayfly shell [..]' opens a shell in it, 'mayfly rm [..]' deletes it\n",
    );
    assert_eq!(env.status("kept")["state"], "started");
    env.run(&["run", "-q", "--keep", "--name", "other", "--", "echo", "hi"]).prints("hi\n");
    env.clear();
}

/// Runs `exec` with a terminal as its stderr and returns the output there.
fn exec_watched(env: &Environment, flags: &[&str]) -> String {
    let id = env.start(&[]);
    let (mut master, slave) = terminal::open();
    let mut command = env.command(&[&["exec"], flags, &[&id, "--", "true"]].concat());
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(slave);
    let live = Live::start_as_set_up(command);
    live.end().is(0, "", "");
    // One read is enough. Reading on would fail, because the terminal has no writer.
    let mut shown = vec![0; 4096];
    let count = master.read(&mut shown).unwrap_or(0);
    env.clear();
    String::from_utf8_lossy(&shown[..count]).replace(&id, "VM")
}

#[test]
fn a_deletion_is_reported_on_terminals_only() {
    let env = Environment::mock();
    let told = "mayfly: deleted VM VM (post_exec_cleanup); '--keep' keeps it\r\n";
    assert_eq!(exec_watched(&env, &[]), told);
    assert_eq!(exec_watched(&env, &["-q"]), "");
    assert_eq!(exec_watched(&env, &["--keep"]), "");
}
