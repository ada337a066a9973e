//! Bytes in both directions: exact, bounded, interruptible.

use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use mayfly::guest::{CommandExit, CommandOutcome, ExecIo, OutputSink, StdinSource};
use mayfly::host::signals::{PendingSignals, SignalInterrupt};
use mayfly::protocol::ExecRequest;
use nix::libc;
use sha2::{Digest, Sha256};

use super::harness::{Agent, argv, eventually, input, lives, sh, stdout, try_run};

/// Bytes without a pattern that a mistake could hide behind (xorshift).
fn noise(count: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut bytes = Vec::with_capacity(count + 8);
    while bytes.len() < count {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend(state.to_le_bytes());
    }
    bytes.truncate(count);
    bytes
}

fn with_stdin(request: ExecRequest) -> ExecRequest {
    ExecRequest { stdin: true, ..request }
}

/// Runs a command in a thread of its own, with pipes for its output; returns their reading ends, a
/// way to signal the thread, and the outcome to come.
struct Background {
    stdout: std::io::PipeReader,
    thread: libc::pthread_t,
    outcome: mpsc::Receiver<anyhow::Result<CommandOutcome>>,
}

impl Background {
    fn start(agent: &Agent, request: ExecRequest, stdin: Option<OwnedFd>) -> Background {
        let mut session = agent.session();
        let (stdout, out) = std::io::pipe().unwrap();
        let (me, identity) = mpsc::channel();
        let (done, outcome) = mpsc::channel();
        std::thread::spawn(move || {
            let mut signals = PendingSignals::block().unwrap();
            // SAFETY: it only asks who this thread is.
            me.send(unsafe { libc::pthread_self() }).unwrap();
            let io = ExecIo {
                stdin: stdin.map(StdinSource::Bytes),
                stdout: OutputSink::Stream(out.into()),
                stderr: OutputSink::Capture { limit: 1000 },
                signals: &mut signals,
            };
            let result = session.exec(&request, io);
            // The line ends before its outcome is known, as it does in a program that exits.
            drop(session);
            let _ = done.send(result);
        });
        Background { stdout, thread: identity.recv().unwrap(), outcome }
    }

    fn signal(&self, number: i32) {
        // SAFETY: the thread is waited for before the test ends; the signal is blocked in it and
        // read from a descriptor.
        unsafe { libc::pthread_kill(self.thread, number) };
    }

    fn line(&mut self) -> String {
        let mut line = Vec::new();
        let mut byte = [0];
        while self.stdout.read(&mut byte).unwrap() == 1 && byte[0] != b'\n' {
            line.push(byte[0]);
        }
        String::from_utf8(line).unwrap()
    }

    fn outcome(&self) -> anyhow::Result<CommandOutcome> {
        self.outcome.recv_timeout(super::harness::PATIENCE).unwrap()
    }
}

#[test]
fn sixty_four_mib_pass_through_cat_unchanged() {
    let agent = Agent::start();
    let bytes = noise(64 << 20);
    let mut cat = Background::start(&agent, with_stdin(argv(&["cat"])), Some(input(bytes.clone())));
    let mut back = Vec::with_capacity(bytes.len());
    cat.stdout.read_to_end(&mut back).unwrap();
    assert!(back == bytes, "{} of {} bytes came back, or others", back.len(), bytes.len());
    assert_eq!(cat.outcome().unwrap().exit, CommandExit::Exited(0));
}

#[test]
fn standard_error_is_separate() {
    let agent = Agent::start();
    let outcome = agent.sh("echo out; echo err >&2");
    assert_eq!((stdout(&outcome), &outcome.stderr.bytes[..]), ("out\n", &b"err\n"[..]));
}

#[test]
fn the_end_of_input_is_no_end_of_output() {
    let agent = Agent::start();
    let request = with_stdin(sh("cat; sleep 0.3; echo done"));
    let outcome = try_run(&mut agent.session(), &request, Some(input(b"x".to_vec()))).unwrap();
    assert_eq!((stdout(&outcome), &outcome.exit), ("xdone\n", &CommandExit::Exited(0)));
    // Without -i the input is empty, not the host's.
    assert_eq!(stdout(&agent.sh("cat; echo end")), "end\n");
}

#[test]
fn the_end_of_input_is_told_after_all_of_it() {
    let agent = Agent::start();
    let bytes = noise(3_000_001);
    let request = with_stdin(sh("sleep 0.1; wc -c"));
    let outcome = try_run(&mut agent.session(), &request, Some(input(bytes))).unwrap();
    assert_eq!(stdout(&outcome).trim(), "3000001");
}

#[test]
fn input_is_exact_however_it_is_written_and_read() {
    let agent = Agent::start();
    let bytes = noise(6 << 20);
    for (largest, reader) in [
        (200_000, "cat"),
        (200_000, "sleep 0.3; cat"),
        (70_000, "for n in 1 2 3 4 5; do sleep 0.02; dd bs=99999 count=1 status=none; done; cat"),
        (5_000, "dd bs=1001 status=none"),
    ] {
        let (read, mut write) = std::io::pipe().unwrap();
        let request = with_stdin(sh(&format!("({reader}) | sha256sum")));
        let mut command = Background::start(&agent, request, Some(read.into()));
        let mut rest = &bytes[..];
        for turn in 1.. {
            // Pieces of any size from one byte, in no order.
            let (piece, after) = rest.split_at((turn * 7919 % largest + 1).min(rest.len()));
            write.write_all(piece).unwrap();
            rest = after;
            if rest.is_empty() {
                break;
            }
        }
        drop(write);
        let sum = Sha256::digest(&bytes);
        let sum: String = sum.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(command.line(), format!("{sum}  -"), "{reader}");
        assert_eq!(command.outcome().unwrap().exit, CommandExit::Exited(0));
    }
}

#[test]
fn a_command_may_leave_its_input_unread() {
    let agent = Agent::start();
    let mut session = agent.session();
    for line in
        ["exit 3", "exec 0<&-; sleep 0.2; exit 3", "head -c 1 >/dev/null; sleep 0.1; exit 3"]
    {
        let request = with_stdin(sh(line));
        let outcome = try_run(&mut session, &request, Some(input(noise(5 << 20)))).unwrap();
        assert_eq!(outcome.exit, CommandExit::Exited(3), "{line}");
    }
    assert_eq!(super::harness::run(&mut session, &sh("exit 4")).exit, CommandExit::Exited(4));
}

#[test]
fn captured_output_is_cut_at_its_limit() {
    let agent = Agent::start();
    let mut signals = PendingSignals::block().unwrap();
    let mut capture = |limit, line: &str| {
        let io = ExecIo {
            stdin: None,
            stdout: OutputSink::Capture { limit },
            stderr: OutputSink::Capture { limit: 0 },
            signals: &mut signals,
        };
        agent.session().exec(&sh(line), io).unwrap()
    };
    let cut = capture(10_000, "head -c 1000000 /dev/zero");
    assert_eq!(
        (cut.stdout.bytes.len(), cut.stdout.truncated, cut.exit),
        (10_000, true, CommandExit::Exited(0))
    );
    let whole = capture(10_000, "head -c 10000 /dev/zero");
    assert_eq!((whole.stdout.bytes.len(), whole.stdout.truncated), (10_000, false));
    assert!(!whole.stderr.truncated);
}

#[test]
fn output_written_just_before_the_end_is_complete() {
    let agent = Agent::start();
    let mut session = agent.session();
    for _ in 0..20 {
        let outcome = super::harness::run(&mut session, &sh("head -c 200000 /dev/zero; exit 9"));
        assert_eq!((outcome.stdout.bytes.len(), outcome.exit), (200_000, CommandExit::Exited(9)));
    }
    // Also what a child writes that outlives the command for a moment.
    let late = super::harness::run(&mut session, &sh("(sleep 0.03; echo late) & echo early"));
    assert_eq!(stdout(&late), "early\nlate\n");
}

#[test]
fn a_stopped_reader_blocks_the_command_and_nothing_else() {
    let agent = Agent::start();
    let mut yes = Background::start(&agent, argv(&["yes"]), None);
    assert_eq!(yes.line(), "y");
    // The reader stops here. What is on its way is bounded: pipes, sockets, fixed buffers.
    let written = || {
        let stat = std::fs::read_to_string(format!("/proc/{}/io", agent.child.id())).unwrap();
        stat.lines().find_map(|line| line.strip_prefix("wchar: ")).unwrap().to_owned()
    };
    let mut before = String::new();
    eventually("standstill", || {
        let now = written();
        std::thread::sleep(Duration::from_millis(50));
        std::mem::replace(&mut before, now.clone()) == now
    });
    assert!(before.parse::<u64>().unwrap() < 2 << 20, "{before} bytes went into a stopped pipe");
    let status = std::fs::read_to_string(format!("/proc/{}/status", agent.child.id())).unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    let peak: u64 = peak.trim().trim_end_matches(" kB").parse().unwrap();
    assert!(peak < 32 * 1024, "the agent took {peak} kB");
    assert_eq!(agent.sh("exit 6").exit, CommandExit::Exited(6));
    // Signals are heard although nobody reads; the second gives up.
    yes.signal(libc::SIGINT);
    yes.signal(libc::SIGTERM);
    let error = yes.outcome().unwrap_err();
    assert_eq!(error.downcast_ref::<SignalInterrupt>().map(|i| i.code()), Some(143));
}

#[test]
fn a_timeout_is_not_held_up_by_a_stopped_reader() {
    let agent = Agent::start();
    let request = ExecRequest { timeout_ms: Some(300), ..sh("echo $$; exec yes") };
    let mut yes = Background::start(&agent, request, None);
    let pid = yes.line().parse().unwrap();
    eventually("the end of yes", || !lives(pid));
    // Longer than the backstop: the host's own reader is no reason to distrust the agent.
    std::thread::sleep(Duration::from_millis(2500));
    let mut rest = Vec::new();
    yes.stdout.read_to_end(&mut rest).unwrap();
    assert!(!rest.is_empty());
    assert_eq!(yes.outcome().unwrap().exit, CommandExit::TimedOut);
}

#[test]
fn a_signal_reaches_the_command() {
    let agent = Agent::start();
    for (number, name) in [(2, "INT"), (15, "TERM"), (1, "HUP"), (3, "QUIT")] {
        let line =
            format!("trap 'echo got; exit 5' {name}; echo ready; while :; do sleep 0.01; done");
        let mut command = Background::start(&agent, sh(&line), None);
        assert_eq!(command.line(), "ready");
        command.signal(number);
        assert_eq!(command.line(), "got");
        assert_eq!(command.outcome().unwrap().exit, CommandExit::Exited(5));
    }
    let mut command = Background::start(&agent, sh("echo ready; sleep 1007"), None);
    assert_eq!(command.line(), "ready");
    command.signal(libc::SIGTERM);
    assert_eq!(command.outcome().unwrap().exit, CommandExit::Signalled(15));
}

#[test]
fn a_signal_is_not_stuck_behind_unread_input() {
    let agent = Agent::start();
    let request = with_stdin(sh("echo ready; sleep 1008"));
    let mut command = Background::start(&agent, request, Some(input(noise(8 << 20))));
    assert_eq!(command.line(), "ready");
    command.signal(libc::SIGTERM);
    assert_eq!(command.outcome().unwrap().exit, CommandExit::Signalled(15));
}

#[test]
fn a_second_signal_gives_up_and_the_tree_dies() {
    let agent = Agent::start();
    let line = "trap '' INT TERM; setsid sleep 1009 & echo $!; while :; do sleep 1010; done";
    let mut command = Background::start(&agent, sh(line), None);
    let pid = command.line().parse().unwrap();
    command.signal(libc::SIGINT);
    command.signal(libc::SIGTERM);
    let error = command.outcome().unwrap_err();
    assert!(error.downcast_ref::<SignalInterrupt>().is_some(), "{error:?}");
    eventually("the end of the tree", || !lives(pid));
}

#[test]
fn output_that_nobody_reads_any_more_stops_the_command() {
    let agent = Agent::start();
    for line in ["echo $$; exec yes", "trap '' PIPE; echo $$; while :; do echo y; done"] {
        let mut command = Background::start(&agent, sh(line), None);
        let pid = command.line().parse().unwrap();
        let Background { stdout, outcome, .. } = command;
        drop(stdout);
        let asked = Instant::now();
        let outcome = outcome.recv_timeout(super::harness::PATIENCE).unwrap().unwrap();
        assert_eq!((outcome.exit.code(), outcome.exit), (141, CommandExit::OutputClosed));
        assert!(asked.elapsed() < Duration::from_secs(2));
        eventually("the command's end", || !lives(pid));
    }
}

#[test]
fn a_full_disk_is_an_error_of_its_own() {
    let agent = Agent::start();
    let mut signals = PendingSignals::block().unwrap();
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let io = ExecIo {
        stdin: None,
        stdout: OutputSink::Stream(full.into()),
        stderr: OutputSink::Capture { limit: 0 },
        signals: &mut signals,
    };
    let error = agent.session().exec(&sh("echo x"), io).unwrap_err();
    assert!(format!("{error:#}").contains("No space left"), "{error:#}");
}

#[test]
fn output_goes_to_files_sockets_and_pipes_with_unchanged_flags() {
    let agent = Agent::start();
    let bytes = noise(1 << 20);
    let mut signals = PendingSignals::block().unwrap();
    let mut copy_to = |sink: OwnedFd| {
        let io = ExecIo {
            stdin: Some(StdinSource::Bytes(input(bytes.clone()))),
            stdout: OutputSink::Stream(sink),
            stderr: OutputSink::Capture { limit: 0 },
            signals: &mut signals,
        };
        let outcome = agent.session().exec(&with_stdin(argv(&["cat"])), io).unwrap();
        assert_eq!(outcome.exit, CommandExit::Exited(0));
    };
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(b"before").unwrap();
    copy_to(file.try_clone().unwrap().into());
    let mut back = Vec::new();
    std::io::Seek::rewind(&mut file).unwrap();
    file.read_to_end(&mut back).unwrap();
    assert!(back == [b"before", &bytes[..]].concat());

    let (mut near, far) = std::os::unix::net::UnixStream::pair().unwrap();
    let reader = std::thread::spawn(move || {
        let mut back = Vec::new();
        near.read_to_end(&mut back).unwrap();
        back
    });
    copy_to(far.into());
    assert!(reader.join().unwrap() == bytes);

    let (mut near, far) = std::io::pipe().unwrap();
    let ours = far.try_clone().unwrap();
    let reader = std::thread::spawn(move || {
        let mut back = vec![0; 1 << 20];
        near.read_exact(&mut back).unwrap();
        back
    });
    copy_to(far.into());
    assert!(reader.join().unwrap() == bytes);
    let flags = nix::fcntl::fcntl(&ours, nix::fcntl::FcntlArg::F_GETFL).unwrap();
    assert_eq!(flags & libc::O_NONBLOCK, 0);
}
