//! A receive buffer of fixed size that frames and opening records are taken from.

use zeroize::Zeroize;

use super::frame::FrameHeader;
use super::{Frame, FrameSide, HEADER, Hello, HelloAck, MAX_PAYLOAD, ProtocolViolation};

/// Two of the largest frames: one can be completed while the beginning of the next is here.
const CAPACITY: usize = 2 * (HEADER + MAX_PAYLOAD);

/// Bytes that arrived and were not taken yet. Its size never changes, whatever lengths arrive.
#[derive(Debug)]
pub struct FrameInbox {
    bytes: Box<[u8]>,
    start: usize,
    end: usize,
}

impl Default for FrameInbox {
    fn default() -> Self {
        Self::new()
    }
}

impl FrameInbox {
    /// An empty inbox.
    pub fn new() -> Self {
        FrameInbox { bytes: vec![0; CAPACITY].into(), start: 0, end: 0 }
    }

    /// Where to read the next bytes to; tell how many with [`FrameInbox::filled`]. Never empty when all
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

    /// `count` bytes were read to [`FrameInbox::space`].
    pub fn filled(&mut self, count: usize) {
        assert!(count <= CAPACITY - self.end, "more bytes than there was space");
        self.end += count;
    }

    /// Whether nothing is waiting, not even a part of a frame.
    pub fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// Forgets everything that arrived.
    pub fn clear(&mut self) {
        (self.start, self.end) = (0, 0);
    }

    /// Overwrites what was taken, where something confidential was in it.
    pub fn wipe(&mut self) {
        self.bytes[..self.start].zeroize();
        self.bytes[self.end..].zeroize();
    }

    /// Takes the next frame from `from` with this `tag`; `None` until it is complete.
    ///
    /// # Errors
    /// A [`ProtocolViolation`], as soon as the header shows it. The offending bytes stay, for
    /// [`FrameInbox::find_hello`] to look through.
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

    /// Takes the next [`Hello`], throwing away what precedes it.
    pub fn find_hello(&mut self) -> Option<Hello> {
        let (found, used) = Hello::find(&self.bytes[self.start..self.end]);
        self.start += used;
        found
    }

    /// Takes the [`HelloAck`] with this nonce, throwing away what precedes it, other `HelloAck`s included.
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
