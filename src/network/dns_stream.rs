//! DNS over TCP: messages with their lengths before them.

use std::collections::VecDeque;
use std::io;

/// The most bytes of queries that wait for answers.
const MOST_WAITING: usize = 16 << 10;

/// A message as it is sent over TCP.
pub fn framed(message: &[u8]) -> Vec<u8> {
    let length = u16::try_from(message.len()).unwrap_or(0);
    [&length.to_be_bytes()[..], &message[..usize::from(length)]].concat()
}

/// Takes the first complete message from bytes received over TCP.
pub fn take_message(received: &mut Vec<u8>) -> Option<Vec<u8>> {
    let (length, rest) = received.split_first_chunk::<2>()?;
    let message = rest.get(..usize::from(u16::from_be_bytes(*length)))?.to_vec();
    received.drain(..2 + message.len());
    Some(message)
}

/// The gateway's end of a guest's connection to it.
#[derive(Debug, Default)]
pub struct DnsStream {
    received: Vec<u8>,
    queries: VecDeque<Vec<u8>>,
    answers: VecDeque<u8>,
    /// How many queries are not answered yet, with those not taken.
    open: usize,
    ended: bool,
}

impl DnsStream {
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let room = if self.queries.is_empty() { MOST_WAITING - self.received.len() } else { 0 };
        let count = bytes.len().min(room);
        self.received.extend_from_slice(&bytes[..count]);
        while let Some(query) = take_message(&mut self.received) {
            self.queries.push_back(query);
            self.open += 1;
        }
        if count == 0 { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(count) }
    }

    pub fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.answers.is_empty() && !(self.ended && self.open == 0) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        io::Read::read(&mut self.answers, buffer)
    }

    /// The guest sends no more.
    pub fn end_input(&mut self) {
        self.ended = true;
    }

    pub fn next_query(&mut self) -> Option<Vec<u8>> {
        self.queries.pop_front()
    }

    /// Answers one query, or none if it has no answer.
    pub fn answer(&mut self, message: Option<&[u8]>) {
        self.open = self.open.saturating_sub(1);
        self.answers.extend(message.map(framed).unwrap_or_default());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_come_out_whole_and_the_end_follows_the_last_answer() {
        let mut stream = DnsStream::default();
        let sent = [framed(b"one"), framed(b"two")].concat();
        for bytes in sent.split_inclusive(|byte| *byte == b'n') {
            assert_eq!(stream.write(bytes).unwrap(), bytes.len());
        }
        stream.end_input();
        assert!(stream.read(&mut [0]).is_err());
        assert_eq!(stream.next_query().unwrap(), b"one");
        assert_eq!(stream.next_query().unwrap(), b"two");
        assert_eq!(stream.next_query(), None);
        stream.answer(Some(b"1"));
        let mut buffer = [0; 8];
        assert_eq!(stream.read(&mut buffer).unwrap(), 3);
        assert!(stream.read(&mut buffer).is_err());
        stream.answer(None);
        assert_eq!(stream.read(&mut buffer).unwrap(), 0);
    }

    #[test]
    fn what_waits_is_bounded() {
        let mut stream = DnsStream::default();
        assert_eq!(stream.write(&[0xff; 64 << 10]).unwrap(), MOST_WAITING);
        assert!(stream.write(&[0]).is_err());
    }
}
