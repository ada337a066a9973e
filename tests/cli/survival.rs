//! A started VM outlives the process that started it.

use std::os::unix::process::CommandExt;

use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::{Pid, getpgid, getsid};

use crate::support::environment::Environment;
use crate::support::processes::{eventually, lives};
use crate::support::terminal;

#[test]
fn a_started_vm_has_a_session_of_its_own() {
    let env = Environment::mock();
    let id = env.start(&[]);
    let vmm = Pid::from_raw(env.vmm(&id));
    assert_eq!((getsid(Some(vmm)), getpgid(Some(vmm))), (Ok(vmm), Ok(vmm)));
    env.rm(&id);
}

#[test]
fn signals_to_the_shells_job_do_not_reach_it() {
    let env = Environment::mock();
    let id = env.create(&[]);
    // A job of a shell: a process group, which gets Ctrl-C and the hangup.
    let script =
        format!("{} start {id}; echo started; exec sleep 1013", env!("CARGO_BIN_EXE_mayfly"));
    let template = env.command::<&str>(&[]);
    let mut job = std::process::Command::new("sh");
    job.args(["-c", &script]).env_clear().process_group(0);
    job.envs(template.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let mut live = crate::support::live::Live::start(job);
    live.says("started");
    let group = Pid::from_raw(live.pid());
    for signal in [Signal::SIGINT, Signal::SIGQUIT, Signal::SIGHUP, Signal::SIGTERM] {
        let _ = killpg(group, signal);
    }
    assert_eq!(live.end().code(), -(Signal::SIGINT as i32), "the shell's job has ended");
    env.run(&["exec", "--keep", &id, "--", "echo", "alive"]).prints("alive\n");
    env.rm(&id);
}

#[test]
fn it_survives_the_terminal_it_was_started_from() {
    let env = Environment::mock();
    let id = env.create(&[]);
    let (master, slave) = terminal::open();
    // A shell in the terminal starts the VM and then waits until the terminal is closed.
    let script = format!("mayfly start {id} && touch {}/started; read line", env.root().display());
    let mut shell = env.client("sh", &["-c", &script]);
    terminal::give(&mut shell, &slave);
    let mut child = shell.spawn().unwrap();
    drop(shell);
    eventually("the start", || env.root().join("started").exists());
    let vmm = env.vmm(&id);
    drop(slave);
    drop(master);
    let mut ended = None;
    eventually("the hangup's end of the shell", || {
        ended = child.try_wait().unwrap();
        ended.is_some()
    });
    assert!(!ended.unwrap().success(), "the hangup ended the shell: {ended:?}");
    assert!(lives(vmm));
    env.run(&["exec", "--keep", &id, "--", "echo", "alive"]).prints("alive\n");
    // Sent directly, the hangup has no effect either.
    kill(Pid::from_raw(vmm), Signal::SIGHUP).unwrap();
    env.run(&["exec", "--keep", &id, "--", "echo", "alive"]).prints("alive\n");
    env.rm(&id);
}
