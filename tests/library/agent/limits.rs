//! Time limits that hold whatever the agent and the readers on this host do.

use std::fmt::Debug;
use std::io::{Read, Write, pipe};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use mayfly::guest::{
    AgentSession, CommandExit, CommandOutcome, ExecIo, OutputSink, VmEnding, VmOutlook,
};
use mayfly::host::signals::PendingSignals;
use mayfly::host::wait::WaitLimit;
use mayfly::protocol::{ExecRequest, FrameKind, FrameOutbox, Hello, HelloAck, VERSION};

use super::harness::{channel, sh};

/// An agent that starts the command, prints in pieces with a pause between them, and never ends.
fn endless(piece: usize, pause: Duration) -> UnixStream {
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    std::thread::spawn(move || {
        let mut hello = [0; Hello::SIZE];
        theirs.read_exact(&mut hello).unwrap();
        let nonce = Hello::find(&hello).0.unwrap().nonce;
        let mut outbox = FrameOutbox::default();
        outbox.push_raw(&HelloAck { version: VERSION, nonce }.encode());
        let info = br#"{"version":"9.9.9","kernel":"6.1","init":true}"#;
        outbox.push(FrameKind::AgentInfo, nonce, info);
        outbox.push(FrameKind::Started, nonce, br#"{"pid":7}"#);
        let started = outbox.pending().to_vec();
        let mut outbox = FrameOutbox::default();
        outbox.push(FrameKind::Stdout, nonce, &vec![b'y'; piece]);
        let _ = theirs.write_all(&started);
        while theirs.write_all(outbox.pending()).is_ok() {
            std::thread::sleep(pause);
        }
    });
    ours
}

fn flood() -> UnixStream {
    endless(60_000, Duration::ZERO)
}

fn drip() -> UnixStream {
    endless(1, Duration::from_millis(20))
}

/// Runs a command and returns its end, and how many seconds that took.
fn run(
    stream: UnixStream,
    timeout: Option<u64>,
    outlook: Option<Box<dyn VmOutlook>>,
    stdout: OutputSink,
) -> (CommandOutcome, f64) {
    let mut wait = WaitLimit::within(Duration::from_secs(5));
    let mut session = AgentSession::open(channel(stream), false, &mut wait).unwrap();
    if let Some(outlook) = outlook {
        session.watch(outlook);
    }
    let mut signals = PendingSignals::block().unwrap();
    let stderr = OutputSink::Capture { limit: 1000 };
    let io = ExecIo { stdin: None, stdout, stderr, signals: &mut signals };
    let asked = Instant::now();
    let request = ExecRequest { timeout_ms: timeout, ..sh("true") };
    let outcome = session.exec(&request, io).unwrap();
    (outcome, asked.elapsed().as_secs_f64())
}

/// The backstop is two seconds after the limit. A busy machine needs a little longer.
#[track_caller]
fn ends_in_time(ended: (CommandOutcome, f64), exit: CommandExit) {
    assert_eq!(ended.0.exit, exit);
    assert!((2.0..6.0).contains(&ended.1), "took {} s", ended.1);
}

/// An output whose reader takes a little from time to time, or nothing.
fn slowly_read(reads: bool) -> (OutputSink, impl Debug) {
    let (mut reader, writer) = pipe().unwrap();
    let kept = reader.try_clone().unwrap();
    if reads {
        std::thread::spawn(move || {
            let mut piece = [0; 4096];
            while reader.read(&mut piece).is_ok_and(|count| count > 0) {
                std::thread::sleep(Duration::from_millis(50));
            }
        });
    }
    (OutputSink::Stream(OwnedFd::from(writer)), kept)
}

#[test]
fn a_timeout_holds_for_an_agent_that_goes_on_and_a_slow_reader() {
    for agent in [flood, drip] {
        for reads in [true, false] {
            let (stdout, _kept) = slowly_read(reads);
            ends_in_time(run(agent(), Some(200), None, stdout), CommandExit::TimedOut);
        }
        let captured = OutputSink::Capture { limit: 1 << 20 };
        ends_in_time(run(agent(), Some(200), None, captured), CommandExit::TimedOut);
    }
}

/// A VM that is given more time once, when its time is over.
#[derive(Debug)]
struct Extended {
    begun: Instant,
    asked: AtomicUsize,
}

impl VmOutlook for Extended {
    fn name(&self) -> &str {
        "box"
    }

    fn expires(&self) -> Option<Instant> {
        let more = self.asked.fetch_add(1, Ordering::SeqCst).min(1) as u32;
        Some(self.begun + Duration::from_millis(200) + Duration::from_secs(3) * more)
    }

    fn ending(&self) -> Option<VmEnding> {
        None
    }
}

#[test]
fn a_command_ends_with_its_vms_time_which_may_be_extended() {
    let outlook = Extended { begun: Instant::now(), asked: AtomicUsize::new(0) };
    let (stdout, _kept) = slowly_read(false);
    let (outcome, took) = run(flood(), None, Some(Box::new(outlook)), stdout);
    assert_eq!((outcome.exit, outcome.duration.as_secs() >= 4), (CommandExit::VmExpired, true));
    assert!((5.0..9.0).contains(&took), "took {took} s");
}
