//! Threads and processes that the kernel does not let mayfly start.

use std::process::Command;

use crate::support::environment::Environment;

/// Runs mayfly with its `when`th clone3 failing. This is how threads are started, and processes without `pre_exec`.
fn without_clone(
    env: &Environment,
    when: u32,
    args: &[&str],
) -> Option<crate::support::answer::Answer> {
    Command::new("strace").arg("-V").output().ok()?;
    let inject = format!("inject=clone3:error=EAGAIN:when={when}");
    let program = env!("CARGO_BIN_EXE_mayfly");
    let words = ["-qq", "-o", "/dev/null", "-e", "trace=clone3", "-e", &inject, program];
    Some(env.run_client("strace", &[&words[..], args].concat()))
}

#[test]
fn a_thread_that_cannot_be_started_is_an_error_and_leaves_nothing() {
    let env = Environment::mock();
    env.file("file", "content");
    let id = env.start(&["--keep", "--name", "box"]);
    for args in [
        &["cp", "file", "box:"][..],
        &["cp", "box:/etc/hostname", "out"],
        &["exec", "--keep", "--all", "--", "echo", "x"],
        &["run", "--copy-in", "file", "--", "true"],
        &["run", "--copy-out", "file", "--", "touch", "file"],
    ] {
        let mut failed = 0;
        for when in 1.. {
            let Some(answer) = without_clone(&env, when, args) else { return };
            if answer.code() == 0 {
                break;
            }
            failed += 1;
            assert!([1, 6, 125].contains(&answer.code()), "{answer}");
            assert!(answer.stderr().starts_with("mayfly: "), "{answer}");
            assert!(answer.stderr().contains("Resource temporarily unavailable"), "{answer}");
            assert_eq!(env.ids(), [id.as_str()], "{answer}");
            assert_eq!(env.status(&id)["state"], "started", "{answer}");
        }
        assert!(failed > 0, "{args:?} starts no thread");
    }
    env.rm(&id);
}
