//! A send buffer of fixed size.

use std::io;

use zeroize::Zeroize;

use super::frame::{FrameHeader, FrameKind, HEADER, MAX_PAYLOAD};

/// Bytes that data frames leave free for control frames, so that an answer can always be queued.
pub const RESERVE: usize = 8 * 1024;

/// Two of the largest frames and the reserve.
const CAPACITY: usize = 2 * (HEADER + MAX_PAYLOAD) + RESERVE;

/// Bytes to be sent.
#[derive(Debug)]
pub struct FrameOutbox {
    bytes: Box<[u8]>,
    start: usize,
    end: usize,
    /// Whether the buffer may contain a secret, sent or not.
    confidential: bool,
}

impl Default for FrameOutbox {
    fn default() -> Self {
        FrameOutbox { bytes: vec![0; CAPACITY].into(), start: 0, end: 0, confidential: false }
    }
}

impl FrameOutbox {
    /// Whether a control frame with a payload of at most 4 KiB can be queued.
    pub fn takes_control(&self) -> bool {
        self.room() >= HEADER + 4096
    }

    /// Whether a data frame of the full size can be queued.
    pub fn takes_data(&self) -> bool {
        self.room() >= HEADER + MAX_PAYLOAD + RESERVE
    }

    /// Bytes that can still be queued.
    pub fn room(&self) -> usize {
        CAPACITY - (self.end - self.start)
    }

    /// Queues bytes as they are.
    ///
    /// # Panics
    /// There is no room.
    pub fn push_raw(&mut self, bytes: &[u8]) {
        self.make_contiguous(bytes.len());
        self.bytes[self.end..self.end + bytes.len()].copy_from_slice(bytes);
        self.end += bytes.len();
    }

    /// Queues a frame.
    ///
    /// # Panics
    /// There is no room, or the kind does not permit a payload of this length.
    pub fn push(&mut self, kind: FrameKind, tag: u64, payload: &[u8]) {
        assert!(kind.lengths().contains(&payload.len()), "{kind:?} of {} bytes", payload.len());
        self.confidential |= kind == FrameKind::Secret;
        self.make_contiguous(HEADER + payload.len());
        self.push_raw(&FrameHeader::encode(kind, tag, payload.len()));
        self.push_raw(payload);
    }

    /// Queues a data frame that `fill` writes directly into the buffer. It receives at most `limit` bytes of
    /// room and returns how many it filled; if none, nothing is queued.
    ///
    /// # Errors
    /// Those of `fill`; nothing is queued.
    pub fn push_with(
        &mut self,
        kind: FrameKind,
        tag: u64,
        limit: usize,
        fill: impl FnOnce(&mut [u8]) -> io::Result<usize>,
    ) -> io::Result<usize> {
        let limit = limit.min(MAX_PAYLOAD);
        self.make_contiguous(HEADER + limit);
        let payload = self.end + HEADER;
        let count = fill(&mut self.bytes[payload..payload + limit])?;
        if count > 0 {
            self.bytes[self.end..payload].copy_from_slice(&FrameHeader::encode(kind, tag, count));
            self.end = payload + count;
        }
        Ok(count)
    }

    /// The bytes to send next.
    pub fn pending(&self) -> &[u8] {
        &self.bytes[self.start..self.end]
    }

    /// Whether there is nothing to send.
    pub fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// Removes `count` of the [`FrameOutbox::pending`] bytes, which have been sent.
    pub fn sent(&mut self, count: usize) {
        assert!(count <= self.end - self.start, "more bytes than were waiting");
        self.start += count;
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        }
    }

    /// Overwrites the bytes that have been sent, if there may be a secret among them.
    pub fn wipe(&mut self) {
        if self.confidential {
            self.bytes[..self.start].zeroize();
            self.bytes[self.end..].zeroize();
            self.confidential = !self.is_empty();
        }
    }

    /// Discards the bytes to send.
    pub fn clear(&mut self) {
        (self.start, self.end) = (0, 0);
    }

    fn make_contiguous(&mut self, count: usize) {
        assert!(count <= self.room(), "the outbox is full");
        if CAPACITY - self.end < count {
            self.bytes.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
    }
}

impl Drop for FrameOutbox {
    fn drop(&mut self) {
        self.clear();
        self.wipe();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wiping_overwrites_secrets_that_were_sent() {
        let contains =
            |outbox: &FrameOutbox| outbox.bytes.windows(6).any(|bytes| bytes == b"canary");
        let mut outbox = FrameOutbox::default();
        outbox.push(FrameKind::Secret, 1, b"\x01acanary");
        outbox.wipe();
        assert!(contains(&outbox), "it has not been sent yet");
        outbox.sent(outbox.pending().len());
        assert!(contains(&outbox));
        outbox.wipe();
        assert!(!contains(&outbox));
    }
}
