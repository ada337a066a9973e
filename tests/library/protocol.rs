//! The frame decoder with arbitrary bytes in arbitrary pieces.

use mayfly::protocol::{
    FLUSH, FrameInbox, FrameKind, FrameOutbox, FrameSide, Hello, HelloAck, MAX_PAYLOAD, VERSION,
};
use proptest::prelude::*;

/// Feeds bytes in pieces and returns the frames, as both ends do.
fn frames(
    side: FrameSide,
    tag: u64,
    bytes: &[u8],
    pieces: &[usize],
) -> (Vec<(FrameKind, Vec<u8>)>, Option<usize>) {
    let mut inbox = FrameInbox::default();
    let mut taken = Vec::new();
    let mut pieces = pieces.iter().cycle();
    let mut at = 0;
    while at < bytes.len() {
        let space = inbox.space();
        assert!(!space.is_empty(), "a drained inbox has room");
        let piece = pieces.next().copied().unwrap_or(1).clamp(1, space.len());
        let piece = piece.min(bytes.len() - at);
        space[..piece].copy_from_slice(&bytes[at..at + piece]);
        inbox.filled(piece);
        at += piece;
        loop {
            match inbox.next_frame(side, tag) {
                Ok(Some(frame)) => {
                    assert!(frame.kind.side() == side);
                    assert!(frame.kind.lengths().contains(&frame.payload.len()));
                    taken.push((frame.kind, frame.payload.to_vec()));
                }
                Ok(None) => break,
                Err(_) => return (taken, Some(at)),
            }
        }
    }
    (taken, None)
}

fn agent_frame() -> impl Strategy<Value = (FrameKind, Vec<u8>)> {
    let kinds: Vec<FrameKind> =
        FrameKind::ALL.iter().copied().filter(|kind| kind.side() == FrameSide::Agent).collect();
    (prop::sample::select(kinds), 0..=MAX_PAYLOAD, any::<u8>()).prop_map(|(kind, length, byte)| {
        let length = length.clamp(*kind.lengths().start(), *kind.lengths().end());
        (kind, vec![byte; length])
    })
}

fn encode(tag: u64, frames: &[(FrameKind, Vec<u8>)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (kind, payload) in frames {
        let mut outbox = FrameOutbox::default();
        outbox.push(*kind, tag, payload);
        bytes.extend(outbox.pending());
    }
    bytes
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    #[test]
    fn what_was_sent_arrives_in_any_pieces(
        sent in prop::collection::vec(agent_frame(), 0..6),
        pieces in prop::collection::vec(1_usize..200_000, 1..8),
        tag: u64,
    ) {
        let (got, violation) = frames(FrameSide::Agent, tag, &encode(tag, &sent), &pieces);
        prop_assert_eq!(violation, None);
        prop_assert!(got == sent);
    }

    #[test]
    fn arbitrary_bytes_never_panic(
        bytes in prop::collection::vec(any::<u8>(), 0..4096),
        pieces in prop::collection::vec(1_usize..100, 1..4),
        tag: u64,
    ) {
        frames(FrameSide::Agent, tag, &bytes, &pieces);
        frames(FrameSide::Host, tag, &bytes, &pieces);
    }

    #[test]
    fn a_changed_header_is_never_the_same_frame(
        frame in agent_frame(),
        at in 0_usize..13,
        with in 1_u8..,
        tag: u64,
    ) {
        let mut bytes = encode(tag, std::slice::from_ref(&frame));
        bytes[at] ^= with;
        let (got, violation) = frames(FrameSide::Agent, tag, &bytes, &[1 << 20]);
        // A changed length or kind can be valid; a changed tag cannot.
        prop_assert!(at < 5 || (got.is_empty() && violation.is_some()));
        prop_assert!(got != [frame]);
    }

    #[test]
    fn a_hello_after_a_broken_frame_is_found(
        junk in prop::collection::vec(any::<u8>(), 0..3000),
        nonce: u64,
        tag: u64,
    ) {
        let hello = Hello { version: 1, nonce };
        let mut inbox = FrameInbox::default();
        let line = [&junk[..], &hello.encode()].concat();
        inbox.space()[..line.len()].copy_from_slice(&line);
        inbox.filled(line.len());
        // The junk may contain frames.
        while let Ok(Some(_)) = inbox.next_frame(FrameSide::Host, tag) {}
        prop_assert_eq!(inbox.find_hello(), Some(hello));
        prop_assert!(inbox.is_empty());
    }

    #[test]
    fn only_the_awaited_ack_counts(others in prop::collection::vec(any::<u64>(), 0..5), nonce: u64) {
        let mut inbox = FrameInbox::default();
        for other in others.iter().filter(|other| **other != nonce).chain([&nonce]) {
            let ack = HelloAck { version: 1, nonce: *other }.encode();
            inbox.space()[..ack.len()].copy_from_slice(&ack);
            inbox.filled(ack.len());
        }
        prop_assert_eq!(inbox.find_ack(nonce), Some(HelloAck { version: 1, nonce }));
    }
}

/// An inbox with these bytes.
fn inbox_of(bytes: &[u8]) -> FrameInbox {
    let mut inbox = FrameInbox::default();
    inbox.space()[..bytes.len()].copy_from_slice(bytes);
    inbox.filled(bytes.len());
    inbox
}

#[test]
fn input_is_taken_at_once_up_to_another_frame_or_an_incomplete_one() {
    let input = |byte: u8| (FrameKind::Stdin, vec![byte; 1000]);
    let bytes = encode(7, &[input(1), input(2), (FrameKind::StdinEof, vec![]), input(3), input(4)]);
    let mut inbox = inbox_of(&bytes[..bytes.len() - 1]);
    let taken = |inbox: &mut FrameInbox| {
        let payloads = inbox.next_payloads(FrameKind::Stdin, 7).unwrap();
        payloads.iter().map(|payload| (payload.len(), payload[0])).collect::<Vec<_>>()
    };
    assert_eq!(taken(&mut inbox), [(1000, 1), (1000, 2)]);
    assert_eq!(taken(&mut inbox), []);
    let end = inbox.next_frame(FrameSide::Host, 7).unwrap().unwrap();
    assert_eq!(end.kind, FrameKind::StdinEof);
    assert_eq!(taken(&mut inbox), [(1000, 3)]);
    assert_eq!(inbox.next_frame(FrameSide::Host, 7), Ok(None));
    inbox.space()[0] = 4;
    inbox.filled(1);
    assert_eq!(taken(&mut inbox), [(1000, 4)]);
    assert!(inbox.is_empty());
}

#[test]
fn input_that_a_flush_completed_is_not_taken() {
    let frame = encode(7, &[(FrameKind::Stdin, vec![1; 1000])]);
    let hello = Hello { version: VERSION, nonce: 8 };
    for cut in [frame.len(), frame.len() - 1, 500] {
        let mut inbox = inbox_of(&[&frame[..cut], &[0; FLUSH], &hello.encode()].concat());
        assert!(inbox.next_payloads(FrameKind::Stdin, 7).is_err());
        assert_eq!(inbox.find_hello(), Some(hello));
        assert!(inbox.is_empty());
    }
}
