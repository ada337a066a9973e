//! Sending standard input to the command.

use std::io::{self, IsTerminal};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;

use super::agent_link::AgentLink;
use super::escape_keys::{EscapeKeys, KeyAction};
use crate::protocol::{FrameKind, ProtocolViolation, STDIN_WINDOW, STREAM_PAYLOAD};
use crate::sys::nonblocking::would_block;

/// The most bytes that a terminal returns at once: the kernel's line buffer.
const TYPED: usize = 4096;

/// How many bytes of keys are kept for a guest that does not read: more than anyone pastes, so that nothing is
/// lost if the guest only pauses.
const HELD: usize = 1 << 20;

/// An input, and how many bytes the agent has room for.
#[derive(Debug)]
pub(super) struct InputFeed {
    /// `None` after its end was sent.
    source: Option<OwnedFd>,
    /// Only for a terminal.
    typing: Option<Typing>,
    credit: usize,
}

/// State of a terminal. It is always read, because a key may be the way out of a guest that does not respond.
#[derive(Debug)]
struct Typing {
    keys: EscapeKeys,
    /// Keys that the agent has no room for yet. Keys beyond [`HELD`] are lost, as in a terminal whose program
    /// does not read.
    held: Vec<u8>,
}

impl InputFeed {
    /// A file, a pipe or anything else that is not a terminal; `None` is an empty input.
    pub fn of_bytes(source: Option<OwnedFd>) -> InputFeed {
        InputFeed { source, typing: None, credit: STDIN_WINDOW }
    }

    /// A terminal.
    pub fn of_keys(source: OwnedFd) -> InputFeed {
        let typing = Typing { keys: EscapeKeys::new(), held: Vec::new() };
        InputFeed { source: Some(source), typing: Some(typing), credit: STDIN_WINDOW }
    }

    /// The descriptor to wait for, if its bytes can be sent or kept.
    pub fn waits_for(&self, link: &AgentLink) -> Option<BorrowedFd<'_>> {
        let source = self.source.as_ref()?;
        (self.typing.is_some() || self.can_send(link)).then(|| source.as_fd())
    }

    /// Whether something can be sent now.
    fn can_send(&self, link: &AgentLink) -> bool {
        self.credit > 0 && link.outbox.takes_data()
    }

    /// Reads once from the readable descriptor and queues the bytes. Returns what keys for mayfly ask for.
    ///
    /// # Errors
    /// The input cannot be read. Then no end of input is sent, so that the command does not take what it has
    /// for the whole input.
    pub fn pump(&mut self, link: &mut AgentLink) -> io::Result<Option<KeyAction>> {
        if self.typing.is_none() {
            return self.pump_bytes(link).map(|()| None);
        }
        let action = self.pump_keys();
        self.send_held(link);
        Ok(action)
    }

    fn pump_bytes(&mut self, link: &mut AgentLink) -> io::Result<()> {
        let Some(source) = &self.source else { return Ok(()) };
        let limit = self.credit.min(STREAM_PAYLOAD);
        let read =
            link.outbox.push_with(FrameKind::Stdin, link.tag, limit, |room| read(source, room));
        match read {
            Ok(count) if count > 0 => self.credit -= count,
            Err(error) if would_block(&error) => {}
            Err(error) if !is_no_input(&error, source) => {
                self.source = None;
                return Err(error);
            }
            _ => {
                link.outbox.push(FrameKind::StdinEof, link.tag, &[]);
                self.source = None;
            }
        }
        Ok(())
    }

    fn pump_keys(&mut self) -> Option<KeyAction> {
        let (source, typing) = (self.source.as_ref()?, self.typing.as_mut()?);
        let mut typed = [0; TYPED];
        let count = match read(source, &mut typed) {
            Ok(count) if count > 0 => count,
            Err(error) if would_block(&error) => return None,
            // The terminal is gone. It has no other end: in raw mode Ctrl-D is a byte like others.
            _ => return Some(KeyAction::HangUp),
        };
        let action = typing.keys.pass(&typed[..count], &mut typing.held);
        typing.held.truncate(HELD);
        action
    }

    /// Queues kept keys, as many as the agent has room for.
    pub fn send_held(&mut self, link: &mut AgentLink) {
        while self.can_send(link)
            && let Some(Typing { held, .. }) = &mut self.typing
            && !held.is_empty()
        {
            let count = held.len().min(self.credit).min(STREAM_PAYLOAD);
            link.outbox.push(FrameKind::Stdin, link.tag, &held[..count]);
            self.credit -= count;
            held.drain(..count);
        }
    }

    /// The agent has room for this many more bytes.
    ///
    /// # Errors
    /// More than its whole buffer.
    pub fn add_credit(&mut self, bytes: u32) -> Result<(), ProtocolViolation> {
        let credit = self.credit + bytes as usize;
        if credit > STDIN_WINDOW {
            return Err(ProtocolViolation::Unexpected(FrameKind::StdinCredit));
        }
        self.credit = credit;
        Ok(())
    }
}

fn read(source: &OwnedFd, room: &mut [u8]) -> io::Result<usize> {
    Ok(rustix::io::read(source, room)?)
}

/// Whether this error means that there is no input: the terminal has hung up or belongs to another session, or
/// nohup opened standard input for writing only.
fn is_no_input(error: &io::Error, source: &OwnedFd) -> bool {
    match error.raw_os_error().map(Errno::from_raw) {
        Some(Errno::EBADF) => true,
        Some(Errno::EIO) => source.is_terminal(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use super::*;
    use crate::host::agent_channel::AgentChannel;
    use crate::sys::pipe;

    /// Empties the outbox, as if its bytes had been sent, and returns how many there were.
    fn sent(link: &mut AgentLink) -> usize {
        let count = link.outbox.pending().len();
        link.outbox.sent(count);
        count
    }

    #[test]
    fn escape_keys_work_when_the_guest_does_not_read() {
        let (ours, _theirs) = UnixStream::pair().unwrap();
        let mut link = AgentLink::new(AgentChannel { stream: ours, claim: None }).unwrap();
        let (read, write) = pipe::open().unwrap();
        let mut feed = InputFeed::of_keys(read);
        let typed = |feed: &mut InputFeed, link: &mut AgentLink, keys: &[u8]| {
            rustix::io::write(&write, keys).unwrap();
            assert!(feed.waits_for(link).is_some());
            feed.pump(link).unwrap()
        };
        while feed.credit > 0 {
            assert_eq!(typed(&mut feed, &mut link, &[b'x'; TYPED]), None);
            sent(&mut link);
        }
        // Twice as much as is kept: the end is lost.
        for key in *b"yz" {
            for _ in 0..HELD / TYPED {
                assert_eq!(typed(&mut feed, &mut link, &[key; TYPED]), None);
            }
        }
        assert_eq!(sent(&mut link), 0);
        let held = &feed.typing.as_ref().unwrap().held;
        assert_eq!((held.len(), held.last()), (HELD, Some(&b'y')));
        feed.add_credit(2).unwrap();
        feed.send_held(&mut link);
        assert!(sent(&mut link) > 2);
        assert_eq!(feed.credit, 0);
        feed.add_credit(STDIN_WINDOW as u32).unwrap();
        feed.send_held(&mut link);
        assert!(sent(&mut link) > STREAM_PAYLOAD);
        assert_eq!(typed(&mut feed, &mut link, b"\r~."), Some(KeyAction::HangUp));
    }
}
