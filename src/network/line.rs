//! The line to the guest: frames with their lengths before them, over a stream socket.

use std::io;
use std::os::fd::AsFd;

use rustix::io::Errno;
use smoltcp::wire::{EthernetAddress, EthernetFrame, EthernetProtocol, EthernetRepr};

use super::addresses::GATEWAY_MAC;
use crate::model::LinkKind;
use crate::protocol::network::GUEST_MAC;
pub use crate::protocol::network::MTU;

/// The length before each frame, with the most significant byte first.
const LENGTH: usize = 4;
const ETHERNET_HEADER: usize = 14;
/// The largest frame that is accepted.
pub const MAX_FRAME: usize = ETHERNET_HEADER + 65_535;

/// Room for several frames.
const READ_BUFFER: usize = 2 * (LENGTH + MAX_FRAME);

/// With more than this to send, nothing is read that could need an answer.
const FULL: usize = 1 << 20;
/// What an idle line keeps of its buffer.
const KEPT: usize = 128 << 10;

/// A line that is broken: what follows cannot be understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BrokenLine {
    pub length: usize,
}

/// Frames from the guest.
#[derive(Debug, Default)]
pub struct LineReader {
    buffer: Vec<u8>,
    begin: usize,
    end: usize,
}

impl LineReader {
    /// Reads once, after all complete frames were taken. Returns how much; 0 is the end of the line.
    ///
    /// # Errors
    /// Those of read(2).
    pub fn fill(&mut self, line: impl AsFd) -> io::Result<usize> {
        self.buffer.resize(READ_BUFFER, 0);
        self.buffer.copy_within(self.begin..self.end, 0);
        (self.begin, self.end) = (0, self.end - self.begin);
        let count = rustix::io::read(line, &mut self.buffer[self.end..])?;
        self.end += count;
        Ok(count)
    }

    /// Takes bytes that did not come from a line.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.truncate(self.end);
        self.buffer.extend_from_slice(bytes);
        self.end = self.buffer.len();
    }

    /// The next complete frame.
    ///
    /// # Errors
    /// The next frame is too long.
    pub fn next_frame(&mut self) -> Result<Option<&[u8]>, BrokenLine> {
        let waiting = &self.buffer[self.begin..self.end];
        let Some((length, rest)) = waiting.split_first_chunk::<LENGTH>() else { return Ok(None) };
        let length = u32::from_be_bytes(*length) as usize;
        if length > MAX_FRAME {
            return Err(BrokenLine { length });
        }
        if rest.len() < length {
            return Ok(None);
        }
        let at = self.begin + LENGTH;
        self.begin = at + length;
        Ok(Some(&self.buffer[at..at + length]))
    }
}

/// Frames to the guest.
#[derive(Debug)]
pub struct LineWriter {
    link: LinkKind,
    guest: EthernetAddress,
    buffer: Vec<u8>,
    sent: usize,
}

impl LineWriter {
    pub fn new(link: LinkKind) -> LineWriter {
        LineWriter { link, guest: EthernetAddress(GUEST_MAC), buffer: Vec::new(), sent: 0 }
    }

    pub fn link(&self) -> LinkKind {
        self.link
    }

    /// Takes note of the guest's address on an Ethernet line, which the guest may change.
    pub fn set_guest(&mut self, address: EthernetAddress) {
        self.guest = address;
    }

    pub fn has_room(&self) -> bool {
        self.pending().len() < FULL
    }

    /// What is not sent yet.
    pub fn pending(&self) -> &[u8] {
        &self.buffer[self.sent..]
    }

    /// Adds an IP packet, which `fill` writes into zeroes.
    pub fn packet<R>(&mut self, length: usize, fill: impl FnOnce(&mut [u8]) -> R) -> R {
        let header = if self.link == LinkKind::Ethernet { ETHERNET_HEADER } else { 0 };
        let frame = self.frame(header + length);
        let result = fill(&mut frame[header..]);
        if header > 0 {
            let is_v6 = frame[header] >> 4 == 6;
            let ethertype = if is_v6 { EthernetProtocol::Ipv6 } else { EthernetProtocol::Ipv4 };
            let at = self.buffer.len() - header - length;
            let (src_addr, dst_addr) = (GATEWAY_MAC, self.guest);
            EthernetRepr { src_addr, dst_addr, ethertype }
                .emit(&mut EthernetFrame::new_unchecked(&mut self.buffer[at..]));
        }
        result
    }

    /// Adds a frame of zeroes.
    pub fn frame(&mut self, length: usize) -> &mut [u8] {
        self.buffer.extend_from_slice(&(length as u32).to_be_bytes());
        let at = self.buffer.len();
        self.buffer.resize(at + length, 0);
        &mut self.buffer[at..]
    }

    /// Sends as much as the line takes.
    ///
    /// # Errors
    /// Those of write(2), but not `WouldBlock`.
    pub fn flush(&mut self, line: impl AsFd) -> io::Result<()> {
        while !self.pending().is_empty() {
            match rustix::io::write(&line, self.pending()) {
                Ok(count) => self.sent += count,
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => break,
                Err(errno) => return Err(errno.into()),
            }
        }
        if self.pending().is_empty() {
            self.buffer.clear();
            self.sent = 0;
            self.buffer.shrink_to(KEPT);
        } else if self.sent > FULL / 2 {
            self.buffer.drain(..self.sent);
            self.sent = 0;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_come_out_however_they_arrive() {
        let mut reader = LineReader::default();
        let bytes = [&[0, 0, 0, 3][..], b"abc", &[0, 0, 0, 0], &[0, 0, 0, 2], b"de"].concat();
        let mut frames = Vec::new();
        for byte in bytes {
            reader.push(&[byte]);
            while let Some(frame) = reader.next_frame().unwrap() {
                frames.push(frame.to_vec());
            }
        }
        assert_eq!(frames, [&b"abc"[..], b"", b"de"]);
        reader.push(&[0, 2, 0, 0]);
        assert_eq!(reader.next_frame(), Err(BrokenLine { length: 0x20000 }));
    }

    #[test]
    fn an_ethernet_line_has_headers() {
        let mut writer = LineWriter::new(LinkKind::Ethernet);
        writer.set_guest(EthernetAddress([2, 0, 0, 0, 0, 9]));
        writer.packet(1, |packet| packet[0] = 0x60);
        let mut expected = vec![0, 0, 0, 15, 2, 0, 0, 0, 0, 9];
        expected.extend_from_slice(&GATEWAY_MAC.0);
        expected.extend_from_slice(&[0x86, 0xdd, 0x60]);
        assert_eq!(writer.pending(), expected);
    }
}
