//! A receive buffer of fixed size for frames and the records that open a session.

use std::io::IoSlice;
use std::ops::Range;

use zeroize::Zeroize;

use super::frame::{
    Frame, FrameHeader, FrameKind, FrameSide, HEADER, MAX_OUTPUT, ProtocolViolation,
};
use super::hello::{Hello, HelloAck};

/// Bytes that arrived and were not taken yet. It never grows.
#[derive(Debug)]
pub struct FrameInbox {
    bytes: Box<[u8]>,
    start: usize,
    end: usize,
    /// How far it was ever filled since it was wiped.
    reached: usize,
}

impl Default for FrameInbox {
    /// It has room to complete the largest frame while it also holds the beginning of the next. The kernel provides
    /// memory only for the part that is used.
    fn default() -> FrameInbox {
        FrameInbox {
            bytes: vec![0; 2 * (HEADER + MAX_OUTPUT)].into(),
            start: 0,
            end: 0,
            reached: 0,
        }
    }
}

impl FrameInbox {
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
        self.reached = self.reached.max(self.end);
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
        self.bytes[self.end..self.reached].zeroize();
        self.reached = self.end;
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
        let next = self.frame_at(self.start, from, tag)?;
        Ok(next.map(|(kind, payload)| {
            self.start = payload.end;
            Frame { kind, payload: &self.bytes[payload] }
        }))
    }

    /// Takes the payloads of the frames from the host that come next, as long as they are complete and of this `kind`.
    ///
    /// # Errors
    /// A [`ProtocolViolation`] if what follows them is not a frame of this session. The payloads are lost then, because
    /// the last one may have been completed by a flush.
    pub fn next_payloads(
        &mut self,
        kind: FrameKind,
        tag: u64,
    ) -> Result<Vec<IoSlice<'_>>, ProtocolViolation> {
        let mut payloads = Vec::new();
        while let Some((found, payload)) = self.frame_at(self.start, FrameSide::Host, tag)?
            && found == kind
        {
            self.start = payload.end;
            payloads.push(payload);
        }
        Ok(payloads.into_iter().map(|payload| IoSlice::new(&self.bytes[payload])).collect())
    }

    /// The kind of the frame that begins at `start`, and where its payload is; `None` until it is complete.
    fn frame_at(
        &self,
        start: usize,
        from: FrameSide,
        tag: u64,
    ) -> Result<Option<(FrameKind, Range<usize>)>, ProtocolViolation> {
        let waiting = &self.bytes[start..self.end];
        let Some(header) = waiting.first_chunk::<HEADER>() else {
            return Ok(None);
        };
        let FrameHeader { kind, length } = FrameHeader::decode(header, from, tag)?;
        let payload = start + HEADER..start + HEADER + length;
        Ok((payload.end <= self.end).then_some((kind, payload)))
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
