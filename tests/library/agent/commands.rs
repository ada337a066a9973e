//! What a command is given, and how its end comes back.

use std::time::{Duration, Instant};

use mayfly::guest::CommandExit;
use mayfly::host::wait::WaitLimit;
use mayfly::protocol::{
    ExecProgram, ExecRequest, FailureKind, NamedSecret, SetupRequest, WireText,
};
use nix::sys::signal::{Signal, kill};

use super::harness::{Agent, argv, eventually, lives, run, sh, stdout};
use crate::support::timers::{fdinfo, timer};

#[test]
fn exit_codes_and_signals_come_back() {
    let agent = Agent::start();
    let mut session = agent.session();
    for code in [0, 1, 42, 255] {
        assert_eq!(run(&mut session, &sh(&format!("exit {code}"))).exit, CommandExit::Exited(code));
    }
    let killed = run(&mut session, &sh("kill -KILL $$"));
    assert_eq!((killed.exit.code(), killed.exit), (137, CommandExit::Signalled(9)));
    // A real-time signal has no name and must not stop the reaper.
    assert_eq!(run(&mut session, &sh("kill -40 $$")).exit, CommandExit::Signalled(40));
    assert_eq!(run(&mut session, &sh("exit 7")).exit, CommandExit::Exited(7));
    assert!(session.is_clean());
}

#[test]
fn the_agent_introduces_itself() {
    let agent = Agent::start();
    let session = agent.session();
    assert_eq!(session.agent().version, env!("CARGO_PKG_VERSION"));
    assert!(!session.agent().init);
}

#[test]
fn what_cannot_start_says_why() {
    let agent = Agent::start();
    let plain = agent.dir.path().join("plain");
    std::fs::write(&plain, "no program").unwrap();
    let mut session = agent.session();
    let mut reason = |request: &ExecRequest| match run(&mut session, request).exit {
        CommandExit::NotStarted(failure) => {
            (failure.kind, CommandExit::NotStarted(failure.clone()).code(), failure.message)
        }
        other => panic!("{other:?}"),
    };
    let (kind, code, message) = reason(&argv(&["no-such-program"]));
    assert_eq!((kind, code), (FailureKind::NotFound, 127));
    assert_eq!(message, "no-such-program: not found");
    let (kind, code, message) = reason(&argv(&["./plain"]));
    assert_eq!((kind, code), (FailureKind::NotExecutable, 126));
    assert_eq!(message, "./plain: Permission denied");
    assert_eq!(reason(&argv(&["/"])).0, FailureKind::NotExecutable);
    assert_eq!(reason(&argv(&[""])).0, FailureKind::NotFound);
    assert_eq!(reason(&argv(&[])).0, FailureKind::NotFound);
    let nowhere = ExecRequest { cwd: Some("/no/where".into()), ..sh("true") };
    assert_eq!(reason(&nowhere).0, FailureKind::NoSuchDirectory);
    let nobody = ExecRequest { user: Some("no-such-user".into()), ..sh("true") };
    assert_eq!(reason(&nobody).0, FailureKind::NoSuchUser);
    // The session goes on.
    assert_eq!(run(&mut session, &sh("exit 3")).exit, CommandExit::Exited(3));
}

#[test]
fn secrets_without_a_place_for_them_are_refused() {
    let agent = Agent::start();
    let mut session = agent.session();
    let secret = NamedSecret::new("token", b"word".to_vec().into()).unwrap();
    let request = ExecRequest { secrets: vec![secret], ..sh("true") };
    let error = super::harness::try_run(&mut session, &request, None).unwrap_err();
    assert!(error.to_string().ends_with("this agent has no directory for secrets"), "{error}");
    // They were for that command and for no other.
    assert_eq!(run(&mut session, &sh("exit ${MAYFLY_SECRETS-3}")).exit, CommandExit::Exited(3));
}

#[test]
fn a_command_gets_a_clean_world() {
    let agent = Agent::start();
    let mut session = agent.session();
    let request = ExecRequest {
        env: vec![("B".into(), "two".into()), ("B".into(), "three".into())],
        ..argv(&["env"])
    };
    let outcome = run(&mut session, &request);
    let mut lines: Vec<&str> = stdout(&outcome).lines().collect();
    lines.retain(|line| !line.starts_with("PATH="));
    lines.sort_unstable();
    let home = format!("HOME={}", agent.dir.path().display());
    assert_eq!(lines, ["B=three", &home, "MAYFLY_VM=0123456789ab"]);
    let pwd = run(&mut session, &argv(&["pwd", "-P"]));
    assert_eq!(stdout(&pwd).trim(), agent.dir.path().canonicalize().unwrap().to_str().unwrap());
    let elsewhere = run(&mut session, &ExecRequest { cwd: Some("/usr".into()), ..argv(&["pwd"]) });
    assert_eq!(stdout(&elsewhere), "/usr\n");
    // Only the three streams, no ignored or blocked signals, a session and group of its own.
    let fds = run(&mut session, &sh("ls /proc/self/fd | wc -l"));
    assert_eq!(stdout(&fds).trim(), "4", "0, 1, 2 and the directory itself");
    let status = run(&mut session, &argv(&["grep", "-E", "^Sig(Blk|Ign)", "/proc/self/status"]));
    assert_eq!(stdout(&status), "SigBlk:\t0000000000000000\nSigIgn:\t0000000000000000\n");
    let ids = run(&mut session, &sh("ps -o pid=,pgid=,sid= -p $$"));
    let ids: Vec<&str> = stdout(&ids).split_whitespace().collect();
    assert!(ids.len() == 3 && ids.iter().all(|id| *id == ids[0]), "{ids:?}");
}

#[test]
fn arguments_are_bytes_and_may_be_long() {
    let agent = Agent::start();
    let mut session = agent.session();
    let odd = WireText(b"\xff\xfe \"'\n".to_vec());
    let long: Vec<WireText> = (0..5).map(|n| WireText(vec![b'a' + n; 100_000])).collect();
    let mut words = vec![WireText::from("printf"), WireText::from("%s"), odd.clone()];
    words.extend(long.clone());
    let outcome = run(&mut session, &ExecRequest { program: ExecProgram::Argv(words), ..sh("") });
    let expected: Vec<u8> = [odd].iter().chain(&long).flat_map(|word| word.0.clone()).collect();
    assert!(outcome.stdout.bytes == expected);
    let huge = argv(&["true", &"x".repeat(1 << 20)]);
    let error = super::harness::try_run(&mut session, &huge, None).unwrap_err();
    assert!(error.to_string().contains("the command and its environment take"), "{error}");
    assert_eq!(run(&mut session, &sh("exit 4")).exit, CommandExit::Exited(4));
}

#[test]
fn a_shell_line_runs_in_bash() {
    let agent = Agent::start();
    let request = ExecRequest {
        program: ExecProgram::Shell("set -o pipefail; false | true; echo ${BASH##*/} $?".into()),
        ..sh("")
    };
    assert_eq!(stdout(&run(&mut agent.session(), &request)), "bash 1\n");
}

#[test]
fn a_timeout_kills_the_whole_tree_and_keeps_the_output() {
    let agent = Agent::start();
    let line = "echo begun; trap '' TERM INT; setsid sleep 1001 & echo $!; \
                sh -c 'sleep 1002 & echo $!; wait' & wait; wait";
    let asked = Instant::now();
    let outcome = run(&mut agent.session(), &ExecRequest { timeout_ms: Some(500), ..sh(line) });
    assert_eq!((outcome.exit.code(), &outcome.exit), (124, &CommandExit::TimedOut));
    assert!(asked.elapsed() < Duration::from_secs(3));
    let mut lines = stdout(&outcome).lines();
    assert_eq!(lines.next(), Some("begun"));
    let pids: Vec<i32> = lines.map(|line| line.parse().unwrap()).collect();
    assert_eq!(pids.len(), 2);
    eventually("the end of the tree", || !pids.iter().any(|&pid| lives(pid)));
}

#[test]
fn a_fork_bomb_is_killed_at_the_timeout() {
    let agent = Agent::start();
    // Bounded in number, so that a failure of this test does not take the machine along.
    let line = "b() { [ $1 -le 0 ] || { b $(($1-1)) & b $(($1-1)) & sleep 1003; }; }; b 6";
    let outcome = run(&mut agent.session(), &ExecRequest { timeout_ms: Some(300), ..sh(line) });
    assert_eq!(outcome.exit, CommandExit::TimedOut);
    let mark = format!("{}", agent.child.id());
    eventually("the end of all sleepers", || {
        let ps = std::process::Command::new("ps").args(["-o", "pid=", "--ppid", &mark]).output();
        ps.unwrap().stdout.is_empty()
    });
}

#[test]
fn a_daemon_does_not_hold_the_session_and_lives_on() {
    let agent = Agent::start();
    let asked = Instant::now();
    let outcome = agent.sh("echo out; sleep 1004 & echo $!");
    assert_eq!(outcome.exit, CommandExit::Exited(0));
    assert!(asked.elapsed() < Duration::from_secs(2));
    let pid = stdout(&outcome).lines().nth(1).unwrap().parse().unwrap();
    assert!(lives(pid));
    drop(agent);
    eventually("the daemon's end with its VM", || !lives(pid));
}

#[test]
fn orphans_are_reaped() {
    let agent = Agent::start();
    let outcome = agent.sh("i=0; while [ $i -lt 2000 ]; do (true &) ; i=$((i+1)); done");
    assert_eq!(outcome.exit, CommandExit::Exited(0));
    let children = format!("/proc/{0}/task/{0}/children", agent.child.id());
    let reaper_is_done = || {
        let mut count = 0;
        for task in std::fs::read_dir(format!("/proc/{}/task", agent.child.id())).unwrap() {
            let path = task.unwrap().path().join("children");
            count += std::fs::read_to_string(path).unwrap_or_default().split_whitespace().count();
        }
        count <= 5
    };
    eventually(&format!("few children in {children}"), reaper_is_done);
}

#[test]
fn several_sessions_run_at_once() {
    let agent = Agent::start();
    std::thread::scope(|scope| {
        for n in 0..8_u8 {
            let agent = &agent;
            scope.spawn(move || {
                let mut session = agent.session();
                for _ in 0..5 {
                    let outcome = run(&mut session, &sh(&format!("echo {n}; exit {n}")));
                    assert_eq!(outcome.exit, CommandExit::Exited(n));
                    assert_eq!(stdout(&outcome), format!("{n}\n"));
                }
            });
        }
    });
}

fn setup(ttl: Option<Duration>) -> SetupRequest {
    SetupRequest {
        vm_id: "fedcba987654".into(),
        unix_ns: 0,
        hostname: "not-the-hosts".into(),
        entropy: String::new(),
        ttl_ms: ttl.map(|ttl| ttl.as_millis() as u64),
        network: false,
    }
}

#[test]
fn the_ttl_ends_agent_and_commands() {
    let mut agent = Agent::start();
    let mut session = agent.session();
    session.setup(&setup(None), &mut WaitLimit::within(super::harness::PATIENCE)).unwrap();
    let outcome = run(&mut session, &sh("echo $MAYFLY_VM; sleep 1005 & echo $!"));
    let (name, pid) = stdout(&outcome).split_once('\n').unwrap();
    assert_eq!(name, "fedcba987654");
    let ttl = Some(Duration::from_millis(300));
    session.setup(&setup(ttl), &mut WaitLimit::within(super::harness::PATIENCE)).unwrap();
    assert_eq!(agent.wait().code(), Some(0));
    eventually("the daemon's end", || !lives(pid.trim().parse().unwrap()));
}

#[test]
fn the_end_can_be_moved() {
    let mut agent = Agent::start();
    let mut session = agent.session();
    let within = || WaitLimit::within(super::harness::PATIENCE);
    session.setup(&setup(Some(Duration::from_secs(100))), &mut within()).unwrap();
    let left = || timer(&fdinfo(agent.pid().as_raw()));
    assert!((90.0..=100.0).contains(&left()), "{}", left());
    session.set_ttl(Duration::from_secs(1000), &mut within()).unwrap();
    assert!((990.0..=1000.0).contains(&left()), "{}", left());
    // In the same session as in any other, and the last word counts.
    assert_eq!(run(&mut session, &sh("exit 4")).exit, CommandExit::Exited(4));
    session.set_ttl(Duration::from_millis(100), &mut within()).unwrap();
    assert_eq!(agent.wait().code(), Some(0));
}

#[test]
fn shutdown_asks_then_kills() {
    let mut agent = Agent::start();
    let outcome = agent.sh(
        "sh -c 'trap \"touch asked; exit\" TERM; touch ready; while :; do sleep 0.01; done' >/dev/null 2>&1 & \
         sh -c 'trap \"\" TERM; touch deaf; while :; do sleep 1006; done' >/dev/null 2>&1 & echo $!",
    );
    let deaf: i32 = stdout(&outcome).trim().parse().unwrap();
    eventually("the traps", || {
        ["ready", "deaf"].iter().all(|name| agent.dir.path().join(name).exists())
    });
    let mut session = agent.session();
    let asked = Instant::now();
    session
        .shutdown(Duration::from_millis(300), &mut WaitLimit::within(super::harness::PATIENCE))
        .unwrap();
    assert_eq!(agent.wait().code(), Some(0));
    assert!(asked.elapsed() < Duration::from_secs(3));
    assert!(agent.dir.path().join("asked").exists());
    assert!(!lives(deaf));
}

#[test]
fn only_sigterm_ends_the_agent() {
    let mut agent = Agent::start();
    assert_eq!(agent.sh("true").exit, CommandExit::Exited(0));
    for signal in [Signal::SIGINT, Signal::SIGHUP, Signal::SIGQUIT, Signal::SIGPIPE] {
        kill(agent.pid(), signal).unwrap();
    }
    assert_eq!(agent.sh("exit 5").exit, CommandExit::Exited(5));
    kill(agent.pid(), Signal::SIGTERM).unwrap();
    assert_eq!(agent.wait().code(), Some(0));
}
