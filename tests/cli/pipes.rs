//! Closed pipes, and pipes that VMs must not keep open.

use std::io::Read;
use std::os::fd::OwnedFd;
use std::process::Stdio;

use crate::support::environment::Environment;
use crate::support::live::Live;
use crate::support::processes;

/// Runs mayfly with a closed pipe as stdout.
fn run_unread(env: &Environment, args: &[&str]) -> crate::support::answer::Answer {
    let (read, write) = std::io::pipe().unwrap();
    drop(read);
    let mut command = env.command(args);
    command.stdin(Stdio::null()).stdout(OwnedFd::from(write)).stderr(Stdio::piped());
    Live::start_as_set_up(command).end()
}

#[test]
fn a_closed_pipe_is_no_failure() {
    let env = Environment::mock();
    let id = env.create(&[]);
    for args in [
        &["status"][..],
        &["status", "--json"],
        &["profiles"],
        &["doctor"],
        &["completions", "bash"],
        &["--help"],
        &["status", &id],
    ] {
        run_unread(&env, args).is(0, "", "");
    }
    // The work is done anyway.
    run_unread(&env, &["start", &id]).is(0, "", "");
    assert_eq!(env.status(&id)["state"], "started");
    run_unread(&env, &["rm", &id]).is(0, "", "");
    assert!(env.ids().is_empty());
}

#[test]
fn a_command_with_a_closed_pipe_ends_like_a_local_one() {
    let env = Environment::mock();
    let id = env.start(&["--keep"]);
    run_unread(&env, &["exec", &id, "--", "yes"]).is(141, "", "");
    assert_eq!(processes::of_state(&env.state()).len(), 1, "only the agent is left");
    run_unread(&env, &["run", "--", "yes"]).is(141, "", "");
    env.clear();
}

#[test]
fn head_gets_its_line_and_the_pipeline_ends() {
    let env = Environment::mock();
    let mut command = env.command(&["run", "--", "yes"]);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut first = [0; 2];
    let mut stdout = child.stdout.take().unwrap();
    stdout.read_exact(&mut first).unwrap();
    assert_eq!(&first, b"y\n");
    drop(stdout);
    let mut ended = None;
    processes::eventually("the end of the pipeline", || {
        ended = child.try_wait().unwrap();
        ended.is_some()
    });
    assert_eq!(ended.unwrap().code(), Some(141));
    assert!(env.ids().is_empty());
}

#[test]
fn a_vm_keeps_no_pipe_of_its_starter_open() {
    let env = Environment::mock();
    let id = env.create(&[]);
    // Reading to the end returns when no process has the writing end open.
    env.run(&["start", &id]).prints(&format!("{id}\n"));
    // A pipe with another number, like that of make's job server.
    let script = format!(
        "exec 7>&1; {} run --keep --name two -- true 2>/dev/null; echo done",
        env!("CARGO_BIN_EXE_mayfly")
    );
    let mut shell = env.command::<&str>(&[]);
    let variables: Vec<_> =
        shell.get_envs().map(|(k, v)| (k.to_owned(), v.unwrap().to_owned())).collect();
    shell = std::process::Command::new("sh");
    shell.args(["-c", &script]).env_clear().envs(variables);
    let output = assert_cmd::Command::from_std(shell)
        .timeout(std::time::Duration::from_secs(60))
        .output()
        .unwrap();
    assert_eq!(output.stdout, b"done\n");
    assert_eq!(env.status("two")["state"], "started");
    let fds = |id: &str| std::fs::read_dir(format!("/proc/{}/fd", env.vmm(id))).unwrap();
    for entry in fds(&id).chain(fds(&env.ids()[1])) {
        let target = std::fs::read_link(entry.unwrap().path()).unwrap_or_default();
        let target = target.to_string_lossy().into_owned();
        assert!(
            !target.starts_with("pipe:") || target.is_empty() || is_own_pipe(&env, &target),
            "{target}"
        );
    }
    env.clear();
}

/// Whether every holder of a pipe is a process of a VM.
fn is_own_pipe(env: &Environment, pipe: &str) -> bool {
    let ours: Vec<i32> =
        processes::of_state(&env.state()).into_iter().map(|(pid, _)| pid).collect();
    let me = std::process::id() as i32;
    let holds = |pid: i32| {
        std::fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten().any(|entry| {
            std::fs::read_link(entry.path()).is_ok_and(|target| target.to_string_lossy() == pipe)
        })
    };
    !holds(me) && ours.iter().any(|&pid| holds(pid))
}
