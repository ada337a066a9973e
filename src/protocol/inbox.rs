//! A receive buffer of fixed size for frames and the records that open a session.

use zeroize::Zeroize;

use super::frame::{Frame, FrameHeader, FrameSide, HEADER, MAX_PAYLOAD, ProtocolViolation};
use super::hello::{Hello, HelloAck};

/// Two of the largest frames: room to complete one while it also holds the beginning of the next.
const CAPACITY: usize = 2 * (HEADER + MAX_PAYLOAD);

/// Bytes that arrived and were not taken yet. It never grows.
#[derive(Debug)]
pub struct FrameInbox {
    bytes: Box<[u8]>,
    start: usize,
    end: usize,
}

impl Default for FrameInbox {
    fn default() -> Self {
        FrameInbox { bytes: vec![0; CAPACITY].into(), start: 0, end: 0 }
    }
}

impl FrameInbox {
    /// Where to read the next bytes to; report how many with [`FrameInbox::filled`]. It is never empty if all
    /// complete frames have been taken.
    pub fn space(&mut self) -> &mut [u8] {
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        } else if self.start > 0 && CAPACITY - self.end < HEADER + MAX_PAYLOAD {
            self.bytes.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
        &mut self.bytes[self.end..]
    }

    /// Adds `count` bytes that were read into [`FrameInbox::space`].
    pub fn filled(&mut self, count: usize) {
        assert!(count <= CAPACITY - self.end, "more bytes than there was space");
        self.end += count;
    }

    /// Whether it holds nothing, not even a part of a frame.
    pub fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// Discards everything that arrived.
    pub fn clear(&mut self) {
        (self.start, self.end) = (0, 0);
    }

    /// Overwrites the bytes that were taken; call it if there was a secret among them.
    pub fn wipe(&mut self) {
        self.bytes[..self.start].zeroize();
        self.bytes[self.end..].zeroize();
    }

    /// Takes the next frame from `from` with this `tag`; `None` until it is complete.
    ///
    /// # Errors
    /// A [`ProtocolViolation`], as soon as the header shows it. The offending bytes stay, so that
    /// [`FrameInbox::find_hello`] can search them.
    pub fn next_frame(
        &mut self,
        from: FrameSide,
        tag: u64,
    ) -> Result<Option<Frame<'_>>, ProtocolViolation> {
        let waiting = &self.bytes[self.start..self.end];
        let Some(header) = waiting.first_chunk::<HEADER>() else {
            return Ok(None);
        };
        let FrameHeader { kind, length } = FrameHeader::decode(header, from, tag)?;
        if waiting.len() < HEADER + length {
            return Ok(None);
        }
        let payload = self.start + HEADER;
        self.start = payload + length;
        Ok(Some(Frame { kind, payload: &self.bytes[payload..payload + length] }))
    }

    /// Takes the next [`Hello`] and discards the bytes before it.
    pub fn find_hello(&mut self) -> Option<Hello> {
        let (found, used) = Hello::find(&self.bytes[self.start..self.end]);
        self.start += used;
        found
    }

    /// Takes the [`HelloAck`] with this nonce and discards the bytes before it, other `HelloAck`s included.
    pub fn find_ack(&mut self, nonce: u64) -> Option<HelloAck> {
        loop {
            let (found, used) = HelloAck::find(&self.bytes[self.start..self.end]);
            self.start += used;
            match found {
                Some(ack) if ack.nonce != nonce => {}
                other => return other,
            }
        }
    }
}
