//! A receive buffer of fixed size for frames and the records that open a session.

use zeroize::Zeroize;

use super::frame::{
    Frame, FrameHeader, FrameSide, HEADER, MAX_OUTPUT, MAX_PAYLOAD, ProtocolViolation,
};
use super::hello::{Hello, HelloAck};

/// Bytes that arrived and were not taken yet. It never grows.
#[derive(Debug)]
pub struct FrameInbox {
    bytes: Box<[u8]>,
    start: usize,
    end: usize,
}

impl FrameInbox {
    /// An inbox for frames from this side. It has room to complete the largest while it also holds the beginning of
    /// the next.
    pub fn new(from: FrameSide) -> FrameInbox {
        let largest = match from {
            FrameSide::Host => MAX_PAYLOAD,
            FrameSide::Agent => MAX_OUTPUT,
        };
        FrameInbox { bytes: vec![0; 2 * (HEADER + largest)].into(), start: 0, end: 0 }
    }

    /// Where to read the next bytes to; report how many with [`FrameInbox::filled`]. It is never empty if all
    /// complete frames have been taken.
    pub fn space(&mut self) -> &mut [u8] {
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        } else if self.start > 0 && self.bytes.len() - self.end < self.bytes.len() / 2 {
            self.bytes.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
        &mut self.bytes[self.end..]
    }

    /// Adds `count` bytes that were read into [`FrameInbox::space`].
    pub fn filled(&mut self, count: usize) {
        assert!(count <= self.bytes.len() - self.end, "more bytes than there was space");
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
