//! What the other end of the agent's connection sends.

use std::fmt::Debug;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use zeroize::Zeroizing;

use super::allocation::bounded;
use super::check_error;
use crate::guest::{AgentSession, CommandExit, ExecIo, OutputSink};
use crate::host::agent_channel::AgentChannel;
use crate::host::signals::PendingSignals;
use crate::host::wait::WaitLimit;
use crate::protocol::{
    AgentFailure, AgentInfo, ExecExit, ExecProgram, ExecRequest, ExecStarted, Frame, FrameInbox,
    FrameKind, FrameOutbox, FrameSide, Hello, HelloAck, MAX_SECRETS, NamedSecret,
    ProtocolViolation, ReceivedSecrets, SetupRequest, ShutdownRequest, SignalRequest, StdinCredit,
    TtlRequest, VERSION, WindowSize, WireText,
};

/// The session of all frames here.
const TAG: u64 = 0x0123_4567_89ab_cdef;

/// What an inbox makes of bytes that arrive in pieces: frames, or a violation that ends it.
type Received = Vec<Result<(FrameKind, Vec<u8>), ProtocolViolation>>;

/// Frames come out as they were sent, however the bytes arrive, and never more than fits into the buffer.
pub fn frames(input: &[u8]) {
    let Some((&choice, bytes)) = input.split_first() else { return };
    let from = if choice & 1 == 0 { FrameSide::Agent } else { FrameSide::Host };
    let step = usize::from(choice >> 1) + 1;
    bounded(1 << 20, || {
        let whole = received(bytes, bytes.len().max(1), from);
        assert_eq!(whole, received(bytes, step, from), "it depends on the pieces");
        // What was received can be sent again, and arrives as the same bytes.
        let mut sent = Vec::new();
        for (kind, payload) in whole.iter().flatten() {
            let mut outbox = FrameOutbox::default();
            outbox.push(*kind, TAG, payload);
            sent.extend(outbox.pending());
        }
        assert!(bytes.starts_with(&sent));
        if let Some(Err(violation)) = whole.last() {
            check_error(anyhow::Error::new(violation.clone()));
        }
    });
    for (found, used, encoded) in [
        {
            let (found, used) = Hello::find(bytes);
            (found.is_some(), used, found.map(Hello::encode))
        },
        {
            let (found, used) = HelloAck::find(bytes);
            (found.is_some(), used, found.map(HelloAck::encode))
        },
    ] {
        assert!(used <= bytes.len());
        if let Some(encoded) = encoded {
            // The last four bytes are reserved.
            let record = &bytes[used - Hello::SIZE..used - 4];
            assert!(found && record == &encoded[..Hello::SIZE - 4]);
        }
    }
}

fn received(bytes: &[u8], step: usize, from: FrameSide) -> Received {
    let mut inbox = FrameInbox::default();
    let mut all = Received::new();
    let mut rest = bytes;
    while !rest.is_empty() {
        let space = inbox.space();
        let count = step.min(space.len()).min(rest.len());
        assert!(count > 0, "a buffer without complete frames has no room");
        let (piece, left) = rest.split_at(count);
        space[..count].copy_from_slice(piece);
        inbox.filled(count);
        rest = left;
        loop {
            match inbox.next_frame(from, TAG) {
                Ok(None) => break,
                Ok(Some(Frame { kind, payload })) => {
                    assert!(kind.side() == from && kind.lengths().contains(&payload.len()));
                    all.push(Ok((kind, payload.to_vec())));
                }
                Err(violation) => {
                    all.push(Err(violation));
                    return all;
                }
            }
        }
    }
    all
}

/// Payloads are understood or refused, and what is understood can be said again.
pub fn messages(input: &[u8]) {
    let Some((&code, payload)) = input.split_first() else { return };
    let Some(kind) = FrameKind::from_code(code) else { return };
    let frame = Frame { kind, payload };
    bounded((1 << 20) + 64 * payload.len(), || match kind {
        FrameKind::Setup => again::<SetupRequest>(&frame),
        FrameKind::Exec | FrameKind::ExecPart => again::<ExecRequest>(&frame),
        FrameKind::Signal => again::<SignalRequest>(&frame),
        FrameKind::WindowSize => again::<WindowSize>(&frame),
        FrameKind::Shutdown => again::<ShutdownRequest>(&frame),
        FrameKind::Ttl => again::<TtlRequest>(&frame),
        FrameKind::AgentInfo => again::<AgentInfo>(&frame),
        FrameKind::Started => again::<ExecStarted>(&frame),
        FrameKind::StdinCredit => again::<StdinCredit>(&frame),
        FrameKind::Exit => again::<ExecExit>(&frame),
        FrameKind::Error => again::<AgentFailure>(&frame),
        FrameKind::Secret => secrets(payload),
        _ => {}
    });
}

fn again<T: Serialize + DeserializeOwned + PartialEq + Debug>(frame: &Frame<'_>) {
    match frame.json::<T>() {
        Ok(message) => {
            let said = serde_json::to_vec(&message).expect("what was read can be written");
            assert_eq!(serde_json::from_slice::<T>(&said).expect("it was just written"), message);
        }
        Err(violation) => check_error(anyhow::Error::new(violation)),
    }
}

/// The payloads of secrets, each after its length in two bytes.
fn secrets(mut input: &[u8]) {
    let mut received = ReceivedSecrets::default();
    while let Some((length, rest)) = input.split_first_chunk::<2>() {
        let length = usize::from(u16::from_le_bytes(*length)).min(rest.len());
        let (payload, rest) = rest.split_at(length);
        input = rest;
        if let Err(violation) = received.add(payload) {
            check_error(anyhow::Error::new(violation));
        }
    }
    let secrets = received.take();
    assert!(secrets.iter().map(|secret| secret.value().len()).sum::<usize>() <= MAX_SECRETS);
    for secret in secrets {
        let same = NamedSecret::new(secret.name(), Zeroizing::new(secret.value().to_vec()));
        assert_eq!(same, Some(secret), "a name was accepted that is none");
    }
}

/// A command is a success only if the agent started it, said so once, and last of all said that it ended well.
///
/// The input is the agent's frames: kind, length in two bytes, payload.
pub fn session(input: &[u8]) {
    let (ours, theirs) = UnixStream::pair().expect("a pair of sockets");
    let frames = script(input);
    let said = frames.clone();
    // It must not wait for the host to read: the script can be longer than the socket's buffer.
    let agent = std::thread::spawn(move || {
        let _ = answer(theirs, &said);
    });
    let channel = AgentChannel { stream: ours, claim: None };
    let ran = bounded(4 << 20, || run_command(channel));
    agent.join().expect("the fake agent has no faults");
    match ran {
        Ok(exit) if exit.code() == 0 => {
            let kinds: Vec<FrameKind> = frames.iter().map(|(kind, _)| *kind).collect();
            let is_output =
                |kind: &&FrameKind| matches!(kind, FrameKind::Stdout | FrameKind::Stderr);
            let others: Vec<_> = kinds.iter().filter(|kind| !is_output(kind)).take(2).collect();
            assert_eq!(others, [&FrameKind::Started, &FrameKind::Exit], "{exit:?} of {kinds:?}");
        }
        Ok(CommandExit::NotStarted(failure)) => check_error(anyhow::anyhow!(failure.message)),
        Ok(_) => {}
        Err(error) => check_error(error),
    }
}

fn script(mut input: &[u8]) -> Vec<(FrameKind, Vec<u8>)> {
    let mut frames = Vec::new();
    while let [code, low, high, rest @ ..] = input {
        let length = usize::from(u16::from_le_bytes([*low, *high])).min(rest.len());
        let (payload, rest) = rest.split_at(length);
        input = rest;
        if let Some(kind) = FrameKind::from_code(*code)
            && kind.lengths().contains(&payload.len())
        {
            frames.push((kind, payload.to_vec()));
        }
    }
    frames
}

fn answer(mut line: UnixStream, frames: &[(FrameKind, Vec<u8>)]) -> std::io::Result<()> {
    let mut hello = [0; Hello::SIZE];
    line.read_exact(&mut hello)?;
    let nonce = Hello::find(&hello).0.map_or(0, |hello| hello.nonce);
    line.write_all(&HelloAck { version: VERSION, nonce }.encode())?;
    let greeting = (FrameKind::AgentInfo, br#"{"version":"9","kernel":"6","init":true}"#.to_vec());
    for (kind, payload) in std::iter::once(&greeting).chain(frames) {
        let mut outbox = FrameOutbox::default();
        outbox.push(*kind, nonce, payload);
        line.write_all(outbox.pending())?;
    }
    line.shutdown(std::net::Shutdown::Write)?;
    line.read_to_end(&mut Vec::new()).map(drop)
}

fn run_command(channel: AgentChannel) -> anyhow::Result<CommandExit> {
    let mut wait = WaitLimit::within(Duration::from_secs(20));
    let mut session = AgentSession::open(channel, false, &mut wait)?;
    let request = ExecRequest::of(ExecProgram::Shell(WireText::from("true")));
    let mut signals = PendingSignals::block()?;
    let capture = || OutputSink::Capture { limit: 1 << 16 };
    let io = ExecIo { stdin: None, stdout: capture(), stderr: capture(), signals: &mut signals };
    let outcome = session.exec(&request, io)?;
    assert!(outcome.stdout.bytes.len().max(outcome.stderr.bytes.len()) <= 1 << 16);
    Ok(outcome.exit)
}
