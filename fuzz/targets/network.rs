//! What a guest sends to the process that connects it to the network, and what resolvers answer.

use std::os::fd::IntoRawFd;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use rustix::io::{FdFlags, fcntl_setfd};
use simple_dns::{Packet, TYPE};

use super::allocation::bounded;
use crate::model::LinkKind;
use crate::model::{DnsName, NetworkMode};
use crate::network::dns_message::{self, DnsQuery, OwnAnswer};
use crate::network::engine::NetworkEngine;
use crate::network::line::{LineReader, MAX_FRAME};
use crate::network::order::NetworkOrder;

/// A guest that may reach nothing gets short answers, in frames of the line, and makes the helper keep little.
pub fn guest_frames(input: &[u8]) {
    let Some((&choice, bytes)) = input.split_first() else { return };
    let link = if choice & 1 == 0 { LinkKind::Ip } else { LinkKind::Ethernet };
    let (line, _guest) = UnixStream::pair().expect("a pair of sockets");
    fcntl_setfd(&line, FdFlags::empty()).expect("a flag");
    let order = NetworkOrder {
        line: line.into_raw_fd(),
        link,
        mode: NetworkMode::None,
        allow: vec!["web.example:80".parse().expect("a rule")],
        publish: Vec::new(),
        resolvers: Vec::new(),
        search: Vec::new(),
        hostname: None,
        events: None,
    };
    let mut engine = NetworkEngine::new(order, 1024).expect("a helper");
    // A connection to the gateway has its buffers.
    bounded(80 << 20, || {
        let mut reader = LineReader::default();
        reader.push(bytes);
        while let Ok(Some(frame)) = reader.next_frame() {
            let length = frame.len();
            let sent = engine.take_frame(frame);
            let mut answers = LineReader::default();
            answers.push(&sent);
            let mut read = 0;
            while let Some(answer) = answers.next_frame().expect("frames of the line") {
                read += answer.len() + 4;
                assert!(answer.len() <= MAX_FRAME && answer.len() <= 2 * length + 600);
            }
            assert_eq!(read, sent.len(), "the last frame is not complete");
        }
    });
}

/// Only the name and the type of a question are sent on, and answers are to that question.
pub fn dns(input: &[u8]) {
    bounded(1 << 20, || {
        let name: DnsName = "web.example".parse().expect("a name");
        for kind in [TYPE::A, TYPE::AAAA] {
            let _ = dns_message::addresses(input, &name, kind, 7);
        }
        let Some(query) = DnsQuery::parse(input) else { return };
        let four = Some([198, 18, 0, 1].into());
        for answer in [OwnAnswer::Addresses(four, None), OwnAnswer::NoSuchName] {
            let bytes = query.answer(answer, Duration::from_secs(60));
            let packet = Packet::parse(&bytes).expect("a message");
            assert_eq!(packet.questions[0].qname.to_string(), query.spelled);
        }
        let sent = query.forwarded(7);
        assert!(sent.len() <= 12 + 255 + 4, "{} bytes are sent on", sent.len());
        if query.name.is_some() {
            let again = DnsQuery::parse(&sent).expect("a question");
            assert_eq!((again.name, again.kind), (query.name.clone(), query.kind));
        }
        let _ = query.relayed(input, 7);
    });
}
