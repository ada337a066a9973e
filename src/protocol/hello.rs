//! The two fixed-size records that open a session.

/// The protocol's version. Any change to the kinds, their payloads or their meaning increases it.
pub const VERSION: u32 = 6;

/// The first bytes of a [`Hello`]. They are arbitrary; the first four, read as a frame's length, exceed every
/// limit, so that a `Hello` where a frame is expected is noticed at once.
const SYNC: [u8; 16] = *b"\xf3mayfly\x9e\x1c\xd7\x42\x88\xe5\x0b\xb6\x71";

/// The first bytes of a [`HelloAck`]. They differ from [`SYNC`], so that a loopback is not mistaken for an
/// agent.
const ANSWER: [u8; 16] = *b"\xceAGENT\xa4\x17\xf9\x03\x5d\xe8\x96\x2a\xbb\x60";

/// The host's first message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hello {
    /// The host's [`VERSION`].
    pub version: u32,
    /// Random, new for each attempt; it becomes the tag of every frame.
    pub nonce: u64,
}

/// The agent's answer to a [`Hello`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HelloAck {
    /// The agent's [`VERSION`].
    pub version: u32,
    /// The nonce of the `Hello`.
    pub nonce: u64,
}

impl Hello {
    /// Bytes on the wire: 16 magic, 4 version, 8 nonce, 4 reserved (zero).
    pub const SIZE: usize = 32;

    /// The record's bytes.
    pub fn encode(self) -> [u8; Self::SIZE] {
        encode(SYNC, self.version, self.nonce)
    }

    /// Finds the first complete `Hello`. Returns it, if any, and how many leading bytes to discard: all up to
    /// its end, or those that cannot be the beginning of one.
    pub fn find(bytes: &[u8]) -> (Option<Hello>, usize) {
        let (found, used) = find(SYNC, bytes);
        (found.map(|(version, nonce)| Hello { version, nonce }), used)
    }
}

impl HelloAck {
    /// The layout is that of [`Hello`].
    pub const SIZE: usize = Hello::SIZE;

    /// The record's bytes.
    pub fn encode(self) -> [u8; Self::SIZE] {
        encode(ANSWER, self.version, self.nonce)
    }

    /// Finds the first complete `HelloAck`; see [`Hello::find`].
    pub fn find(bytes: &[u8]) -> (Option<HelloAck>, usize) {
        let (found, used) = find(ANSWER, bytes);
        (found.map(|(version, nonce)| HelloAck { version, nonce }), used)
    }
}

fn encode(magic: [u8; 16], version: u32, nonce: u64) -> [u8; Hello::SIZE] {
    let mut bytes = [0; Hello::SIZE];
    bytes[..16].copy_from_slice(&magic);
    bytes[16..20].copy_from_slice(&version.to_le_bytes());
    bytes[20..28].copy_from_slice(&nonce.to_le_bytes());
    bytes
}

fn find(magic: [u8; 16], bytes: &[u8]) -> (Option<(u32, u64)>, usize) {
    let mut at = 0;
    while let Some(offset) = bytes[at..].iter().position(|&byte| byte == magic[0]) {
        at += offset;
        let rest = &bytes[at..];
        let compared = rest.len().min(magic.len());
        if rest[..compared] != magic[..compared] {
            at += 1;
            continue;
        }
        let Some(record) = rest.first_chunk::<{ Hello::SIZE }>() else {
            return (None, at);
        };
        let version = u32::from_le_bytes(record[16..20].try_into().expect("four bytes"));
        let nonce = u64::from_le_bytes(record[20..28].try_into().expect("eight bytes"));
        return (Some((version, nonce)), at + Hello::SIZE);
    }
    (None, bytes.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::frame::MAX_OUTPUT;

    #[test]
    fn a_hello_is_found_after_any_bytes_and_across_any_cut() {
        let hello = Hello { version: VERSION, nonce: 0x0123_4567_89ab_cdef };
        let mut line = b"stale \xf3 bytes \xf3mayfly".to_vec();
        let junk = line.len();
        line.extend(hello.encode());
        assert_eq!(Hello::find(&line), (Some(hello), line.len()));
        for cut in 0..line.len() {
            let (found, used) = Hello::find(&line[..cut]);
            assert_eq!(found, None);
            assert!(used <= junk, "a cut at {cut} discards the record's beginning");
            assert_eq!(Hello::find(&line[used..]).0, Some(hello));
        }
    }

    #[test]
    fn an_answer_is_not_a_hello() {
        let ack = HelloAck { version: 1, nonce: 7 }.encode();
        assert_eq!(Hello::find(&ack).0, None);
        assert_eq!(HelloAck::find(&ack).0, Some(HelloAck { version: 1, nonce: 7 }));
    }

    #[test]
    fn a_hello_in_place_of_a_frame_has_an_impossible_length() {
        for magic in [SYNC, ANSWER] {
            let length = u32::from_le_bytes(magic[..4].try_into().unwrap());
            assert!(length as usize > MAX_OUTPUT);
        }
    }
}
