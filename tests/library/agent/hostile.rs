//! Agents that lie, go silent or go away.

use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use mayfly::guest::{AgentSession, CommandExit, CommandOutcome};
use mayfly::host::signals::{PendingSignals, SignalInterrupt};
use mayfly::host::wait::WaitLimit;
use mayfly::model::{Refusal, RefusalKind};
use mayfly::protocol::{ExecRequest, FrameKind, FrameOutbox, Hello, HelloAck, VERSION};
use nix::sys::signal::{Signal, raise};
use proptest::prelude::*;

use super::harness::{channel, sh, try_run};

/// What a fake agent says: given the nonce, the bytes of its whole life.
type Script = Box<dyn FnOnce(u64) -> Vec<u8> + Send>;

const INFO: &[u8] = br#"{"version":"9.9.9","kernel":"6.1","init":true}"#;
const STARTED: &[u8] = br#"{"pid":7}"#;
const EXIT: &[u8] = br#"{"end":{"code":0},"timed_out":false,"duration_ms":3}"#;

/// An agent that reads a `Hello`, says its bytes, and then either closes or stays silent.
fn fake(stays: bool, script: Script) -> UnixStream {
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    std::thread::spawn(move || {
        let mut hello = [0; Hello::SIZE];
        theirs.read_exact(&mut hello).unwrap();
        let nonce = Hello::find(&hello).0.unwrap().nonce;
        let _ = theirs.write_all(&script(nonce));
        if stays {
            // Until the client is gone.
            let _ = theirs.read_to_end(&mut Vec::new());
        } else {
            let _ = theirs.shutdown(std::net::Shutdown::Write);
            let _ = theirs.read_to_end(&mut Vec::new());
        }
    });
    ours
}

fn frame(kind: FrameKind, nonce: u64, payload: &[u8]) -> Vec<u8> {
    let mut outbox = FrameOutbox::default();
    outbox.push(kind, nonce, payload);
    outbox.pending().to_vec()
}

fn greeting(nonce: u64) -> Vec<u8> {
    let ack = HelloAck { version: VERSION, nonce }.encode();
    [&ack[..], &frame(FrameKind::AgentInfo, nonce, INFO)].concat()
}

/// Runs a command against an agent that greets well and then says these frames.
fn against(stays: bool, frames: &[(FrameKind, &'static [u8])]) -> anyhow::Result<CommandOutcome> {
    let frames = frames.to_vec();
    let script = move |nonce| {
        let mut bytes = greeting(nonce);
        frames.iter().for_each(|(kind, payload)| bytes.extend(frame(*kind, nonce, payload)));
        bytes
    };
    run_against(fake(stays, Box::new(script)), &sh("true"))
}

fn run_against(stream: UnixStream, request: &ExecRequest) -> anyhow::Result<CommandOutcome> {
    let mut wait = WaitLimit::within(Duration::from_secs(5));
    let mut session = AgentSession::open(channel(stream), false, &mut wait)?;
    try_run(&mut session, request, None)
}

fn kind_of(error: &anyhow::Error) -> Option<RefusalKind> {
    Refusal::find(error).map(|refusal| refusal.kind)
}

#[test]
fn a_well_behaved_fake_is_believed() {
    let frames =
        [(FrameKind::Started, STARTED), (FrameKind::Stdout, &b"hi"[..]), (FrameKind::Exit, EXIT)];
    let outcome = against(true, &frames).unwrap();
    assert_eq!((outcome.exit, &outcome.stdout.bytes[..]), (CommandExit::Exited(0), &b"hi"[..]));
}

#[test]
fn a_failure_is_told_in_one_line() {
    let refusal = br#"{"kind":"not_found","message":"no such thing\nmayfly: all is well"}"#;
    let outcome = against(true, &[(FrameKind::Error, refusal)]).unwrap();
    let CommandExit::NotStarted(failure) = outcome.exit else { panic!("{:?}", outcome.exit) };
    assert_eq!(failure.message, "no such thing");
}

#[test]
fn whatever_breaks_the_protocol_is_never_a_success() {
    let cases: &[&[(FrameKind, &[u8])]] = &[
        // The line ends early.
        &[],
        &[(FrameKind::Started, STARTED)],
        &[(FrameKind::Started, STARTED), (FrameKind::Stdout, b"x")],
        // The order is wrong.
        &[(FrameKind::Exit, EXIT)],
        &[(FrameKind::Stdout, b"x"), (FrameKind::Started, STARTED), (FrameKind::Exit, EXIT)],
        &[(FrameKind::Started, STARTED), (FrameKind::Started, STARTED), (FrameKind::Exit, EXIT)],
        &[(FrameKind::Started, STARTED), (FrameKind::Exit, EXIT), (FrameKind::Exit, EXIT)],
        &[(FrameKind::Started, STARTED), (FrameKind::Done, b""), (FrameKind::Exit, EXIT)],
        &[(FrameKind::Started, STARTED), (FrameKind::AgentInfo, INFO), (FrameKind::Exit, EXIT)],
        // Credit that was not asked for.
        &[
            (FrameKind::Started, STARTED),
            (FrameKind::StdinCredit, br#"{"bytes":1}"#),
            (FrameKind::Exit, EXIT),
        ],
        // Values that cannot be.
        &[(FrameKind::Started, STARTED), (FrameKind::Exit, b"{}")],
        &[
            (FrameKind::Started, STARTED),
            (FrameKind::Exit, br#"{"end":{"code":256},"timed_out":false,"duration_ms":0}"#),
        ],
        &[
            (FrameKind::Started, STARTED),
            (FrameKind::Exit, br#"{"end":{"code":-1},"timed_out":false,"duration_ms":0}"#),
        ],
        &[
            (FrameKind::Started, STARTED),
            (FrameKind::Exit, br#"{"end":{"signal":0},"timed_out":false,"duration_ms":0}"#),
        ],
        &[
            (FrameKind::Started, STARTED),
            (FrameKind::Exit, br#"{"end":{"signal":200},"timed_out":false,"duration_ms":0}"#),
        ],
        &[
            (FrameKind::Started, STARTED),
            (FrameKind::Exit, br#"{"end":{"code":0},"timed_out":true,"duration_ms":0}"#),
        ],
        &[
            (FrameKind::Started, STARTED),
            (FrameKind::Exit, br#"{"end":{"code":0},"timed_out":false,"duration_ms":0,"x":1}"#),
        ],
    ];
    for frames in cases {
        let error = against(false, frames).expect_err(&format!("{frames:?}"));
        assert_eq!(kind_of(&error), Some(RefusalKind::Agent), "{frames:?}: {error:#}");
    }
}

#[test]
fn headers_that_lie_are_refused_before_anything_is_allocated() {
    let raw = |length: u32, kind: u8, tag_offset: u64| {
        let script = move |nonce: u64| {
            let mut bytes = greeting(nonce);
            bytes.extend(frame(FrameKind::Started, nonce, STARTED));
            bytes.extend(length.to_le_bytes());
            bytes.push(kind);
            bytes.extend((nonce + tag_offset).to_le_bytes());
            bytes
        };
        // The agent stays silent: the header alone must be enough to refuse.
        run_against(fake(true, Box::new(script)), &sh("true")).unwrap_err().to_string()
    };
    let stdout = FrameKind::Stdout as u8;
    assert!(raw(u32::MAX, stdout, 0).contains("claims 4294967295 bytes"));
    assert!(raw(262_145, stdout, 0).contains("claims 262145 bytes"));
    assert!(raw(257, FrameKind::Exit as u8, 0).contains("claims 257 bytes"));
    assert!(raw(0, stdout, 0).contains("claims 0 bytes"));
    assert!(raw(1, 200, 0).contains("unknown kind 200"));
    assert!(raw(1, FrameKind::Stdin as u8, 0).contains("wrong side"));
    assert!(raw(1, stdout, 1).contains("another session"));
}

#[test]
fn silence_and_dripping_end_at_the_deadline() {
    let open = |stream| {
        let asked = Instant::now();
        let mut wait = WaitLimit::within(Duration::from_millis(400));
        let error = AgentSession::open(channel(stream), false, &mut wait).unwrap_err();
        assert!(asked.elapsed() < Duration::from_secs(3), "{:?}", asked.elapsed());
        assert_eq!(kind_of(&error), Some(RefusalKind::Agent), "{error:#}");
        error.to_string()
    };
    let (silent, _held) = UnixStream::pair().unwrap();
    assert_eq!(open(silent), "no answer from the agent in time (its greeting)");

    let (dripping, mut agent) = UnixStream::pair().unwrap();
    std::thread::spawn(move || while agent.write_all(b"\xce").is_ok() {});
    assert_eq!(open(dripping), "no answer from the agent in time (its greeting)");

    let half = |nonce| greeting(nonce)[..HelloAck::SIZE + 5].to_vec();
    let error = open(fake(true, Box::new(half)));
    assert_eq!(error, "no answer from the agent in time (its introduction)");
}

#[test]
fn a_line_that_ends_before_the_greeting_is_an_error_at_once() {
    let (gone, agent) = UnixStream::pair().unwrap();
    drop(agent);
    let error =
        AgentSession::open(channel(gone), false, &mut WaitLimit::within(Duration::from_secs(20)));
    assert_eq!(kind_of(&error.unwrap_err()), Some(RefusalKind::Agent));
}

#[test]
fn waiting_ends_with_the_vmm_and_with_a_signal() {
    let (silent, _held) = UnixStream::pair().unwrap();
    let (vmm, end) = std::io::pipe().unwrap();
    drop(end);
    let mut wait = WaitLimit::within(Duration::from_secs(20)).watching(vmm.as_fd());
    let error = AgentSession::open(channel(silent), false, &mut wait).unwrap_err();
    assert_eq!(error.to_string(), "the VM ended while waiting for its greeting");

    let (silent, _held) = UnixStream::pair().unwrap();
    let mut signals = PendingSignals::block().unwrap();
    raise(Signal::SIGTERM).unwrap();
    let mut wait = WaitLimit::within(Duration::from_secs(20)).interruptible(&mut signals);
    let error = AgentSession::open(channel(silent), false, &mut wait).unwrap_err();
    assert_eq!(
        error.downcast_ref::<SignalInterrupt>(),
        Some(&SignalInterrupt(Signal::SIGTERM.into()))
    );
}

#[test]
fn another_protocol_version_is_refused_with_a_remedy() {
    let other = |nonce| HelloAck { version: VERSION + 1, nonce }.encode().to_vec();
    let stream = fake(true, Box::new(other));
    let error =
        AgentSession::open(channel(stream), false, &mut WaitLimit::within(Duration::from_secs(5)));
    let error = error.unwrap_err();
    let refusal = Refusal::find(&error).unwrap();
    assert_eq!(refusal.kind, RefusalKind::Agent);
    let hint = refusal.hint.as_deref().unwrap();
    assert!(hint.starts_with("stop and start the VM; "), "{hint}");
}

#[test]
fn an_agent_silent_past_the_timeout_is_given_up() {
    let script = |nonce| {
        let out = frame(FrameKind::Stdout, nonce, b"so far");
        [greeting(nonce), frame(FrameKind::Started, nonce, STARTED), out].concat()
    };
    let request = ExecRequest { timeout_ms: Some(100), ..sh("true") };
    let asked = Instant::now();
    let outcome = run_against(fake(true, Box::new(script)), &request).unwrap();
    assert_eq!(
        (&outcome.exit, &outcome.stdout.bytes[..]),
        (&CommandExit::TimedOut, &b"so far"[..])
    );
    assert!((2.0..4.0).contains(&asked.elapsed().as_secs_f64()));
}

#[test]
fn bytes_of_an_earlier_session_are_thrown_away() {
    let script = |nonce: u64| {
        let old = nonce.wrapping_add(1);
        let mut bytes = vec![0xce; 1000];
        bytes.extend(greeting(old));
        bytes.extend(frame(FrameKind::Exit, old, EXIT));
        bytes.extend(&frame(FrameKind::Stdout, old, &[7; 60_000])[..50_000]);
        bytes.extend(greeting(nonce));
        bytes.extend(frame(FrameKind::Started, nonce, STARTED));
        bytes.extend(frame(FrameKind::Stdout, nonce, b"mine"));
        bytes.extend(frame(FrameKind::Exit, nonce, EXIT));
        bytes
    };
    let outcome = run_against(fake(true, Box::new(script)), &sh("true")).unwrap();
    assert_eq!((&outcome.exit, &outcome.stdout.bytes[..]), (&CommandExit::Exited(0), &b"mine"[..]));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    /// A transcript that was cut, or had bytes changed, is a success only if its exit frame is
    /// whole.
    #[test]
    fn a_mangled_transcript_is_no_success(
        flips in prop::collection::vec((any::<prop::sample::Index>(), 1_u8..), 0..4),
        cut in any::<prop::sample::Index>(),
        is_cut in any::<bool>(),
    ) {
        let (seen, transcript) = std::sync::mpsc::channel();
        let script = move |nonce| {
            let mut bytes = [
                greeting(nonce),
                frame(FrameKind::Started, nonce, STARTED),
                frame(FrameKind::Stdout, nonce, b"some output"),
                frame(FrameKind::Exit, nonce, EXIT),
            ].concat();
            for (at, with) in flips {
                let at = at.index(bytes.len());
                bytes[at] ^= with;
            }
            if is_cut {
                bytes.truncate(cut.index(bytes.len()));
            }
            seen.send((bytes.clone(), frame(FrameKind::Exit, nonce, EXIT))).unwrap();
            bytes
        };
        let result = run_against(fake(false, Box::new(script)), &sh("true"));
        let (bytes, exit) = transcript.recv().unwrap();
        if result.is_ok_and(|outcome| outcome.exit.code() == 0) {
            // Blanks of JSON aside there is one way to say it; a changed duration is not a lie.
            let header = &exit[..exit.len() - EXIT.len()];
            let has_header = bytes.windows(header.len()).any(|window| window == header);
            let is_whole = has_header && (!is_cut || bytes.last() == Some(&b'}'));
            prop_assert!(is_whole);
        }
    }
}
