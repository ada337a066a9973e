//! What a user gives a command in confidence is in no file, no other command line and no other
//! environment.

use std::fs;
use std::path::Path;

use crate::support::environment::Environment;
use crate::support::processes;

const SECRET: &str = "canary-6b1f0e-secret";

#[track_caller]
fn assert_nowhere_below(directory: &Path) {
    let mut stack = vec![directory.to_owned()];
    while let Some(path) = stack.pop() {
        let about = fs::symlink_metadata(&path).unwrap();
        if about.is_dir() {
            stack.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        } else if about.is_file() {
            let bytes = fs::read(&path).unwrap();
            let found = bytes.windows(SECRET.len()).any(|window| window == SECRET.as_bytes());
            assert!(!found, "the secret is in {}", path.display());
        }
    }
}

#[test]
fn a_secret_is_in_the_commands_environment_and_nowhere_else() {
    let mut env = Environment::mock();
    env.set("TOKEN", SECRET);
    let id = env.start(&["--keep"]);
    // Handed on by name: the value is not even in mayfly's own arguments.
    let mut exec = env.live(&[
        "exec",
        "-i",
        "-e",
        "TOKEN",
        &id,
        "--",
        "sh",
        "-c",
        "echo ${#TOKEN}; read wait",
    ]);
    exec.says(&SECRET.len().to_string());
    assert_nowhere_below(&env.state());
    assert_nowhere_below(&env.runtime());
    let holders = processes::with_environment(format!("TOKEN={SECRET}").as_bytes());
    let mine: Vec<i32> =
        processes::of_state(&env.state()).into_iter().map(|(pid, _)| pid).collect();
    assert!(!mine.is_empty());
    for (pid, line) in holders {
        // mayfly itself was given it, and the guest's command; the agent between them was not.
        assert!(pid == exec.pid() || line.starts_with("sh -c"), "the secret is in {pid}: {line}");
    }
    for (pid, line) in processes::of_state(&env.state()) {
        assert!(!line.contains(SECRET), "the secret is in the arguments of {pid}: {line}");
    }
    exec.write(b"\n");
    exec.end().is(0, "[..]", "");
    assert_nowhere_below(&env.state());
    env.clear();
}

#[test]
fn the_vmm_inherits_no_variable_of_the_callers() {
    let mut env = Environment::mock();
    // Not the other test's secret, which looks for it everywhere.
    env.set("TOKEN", "another-canary");
    let id = env.start(&[]);
    let environ = fs::read(format!("/proc/{}/environ", env.vmm(&id))).unwrap();
    let names: Vec<String> = environ
        .split(|&b| b == 0)
        .filter(|variable| !variable.is_empty())
        .map(|variable| String::from_utf8_lossy(variable).split('=').next().unwrap().to_owned())
        .collect();
    for name in &names {
        assert!(["PATH", "HOME", "MAYFLY_VM_DIR"].contains(&name.as_str()), "{names:?}");
    }
    env.clear();
}
