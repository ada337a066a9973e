//! Threads and processes that the kernel does not let the agent start: the session fails, and the agent goes on.

use std::fs;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use mayfly::guest::AgentSession;
use mayfly::host::wait::WaitLimit;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::harness::{Agent, channel, eventually, run, sh, stdout, try_run};

/// Lets every clone of the agent fail from now on. `None`: there is no strace.
fn without_clones(agent: &Agent) -> Option<Child> {
    let pid = agent.pid().to_string();
    let inject = "inject=clone,clone3:error=EAGAIN";
    let words =
        ["-f", "-qq", "-o", "/dev/null", "-e", "trace=clone,clone3", "-e", inject, "-p", &pid];
    let tracer = Command::new("strace").args(words).stderr(Stdio::null()).spawn().ok()?;
    eventually("a tracer of all threads", || {
        let threads = fs::read_dir(format!("/proc/{pid}/task")).unwrap().flatten();
        let status = |path: std::path::PathBuf| fs::read_to_string(path.join("status")).unwrap();
        threads.map(|thread| status(thread.path())).all(|text| !text.contains("TracerPid:\t0\n"))
    });
    Some(tracer)
}

#[test]
fn a_thread_or_process_that_cannot_be_started_fails_its_session_only() {
    let agent = Agent::start();
    let mut open = agent.session();
    let Some(mut tracer) = without_clones(&agent) else { return };
    // A command needs a process.
    let error = format!("{:#}", try_run(&mut open, &sh("true"), None).unwrap_err());
    assert!(
        error.contains("cannot start sh: the system's limit on processes is reached"),
        "{error}"
    );
    // A connection needs a thread.
    let mut soon = WaitLimit::within(Duration::from_secs(20));
    let refused = AgentSession::open(channel(agent.connect()), false, &mut soon);
    assert!(refused.is_err(), "served without a thread");
    kill(Pid::from_raw(tracer.id() as i32), Signal::SIGTERM).unwrap();
    tracer.wait().unwrap();
    assert_eq!(stdout(&run(&mut open, &sh("echo again"))), "again\n");
    assert_eq!(stdout(&agent.sh("echo new")), "new\n");
}
