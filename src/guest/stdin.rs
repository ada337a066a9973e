//! Standard input on its way to the command.

use std::io::{self, IsTerminal};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;

use super::agent_link::AgentLink;
use super::escape_keys::{EscapeKeys, KeyAction};
use crate::protocol::{FrameKind, ProtocolViolation, STDIN_WINDOW, STREAM_PAYLOAD};
use crate::sys::nonblocking::would_block;

/// The most that a terminal gives at once is a line of this length.
const TYPED: usize = 4096;

/// How many keys are held for a guest that takes none: more than anybody pastes, so that a guest that
/// only pauses gets all of it.
const HELD: usize = 1 << 20;

/// An input, and how much of it the agent takes at the moment.
#[derive(Debug)]
pub(super) struct InputFeed {
    /// `None` once its end was sent.
    source: Option<OwnedFd>,
    /// Where it is a terminal.
    typing: Option<Typing>,
    credit: usize,
}

/// A terminal is always read: a key may be the way out of a guest that takes no more.
#[derive(Debug)]
struct Typing {
    keys: EscapeKeys,
    /// Keys that the agent does not take yet. What is typed beyond [`HELD`] of them is lost, as in a
    /// terminal whose program does not read.
    held: Vec<u8>,
}

impl InputFeed {
    /// A file, a pipe or whatever else has an end.
    pub fn of_bytes(source: Option<OwnedFd>) -> InputFeed {
        InputFeed { source, typing: None, credit: STDIN_WINDOW }
    }

    /// A terminal.
    pub fn of_keys(source: OwnedFd) -> InputFeed {
        let typing = Typing { keys: EscapeKeys::new(), held: Vec::new() };
        InputFeed { source: Some(source), typing: Some(typing), credit: STDIN_WINDOW }
    }

    /// The descriptor to wait for, while there is something to do with its bytes.
    pub fn waits_for(&self, link: &AgentLink) -> Option<BorrowedFd<'_>> {
        let source = self.source.as_ref()?;
        (self.typing.is_some() || self.passes(link)).then(|| source.as_fd())
    }

    /// Whether anything may be sent now.
    fn passes(&self, link: &AgentLink) -> bool {
        self.credit > 0 && link.outbox.takes_data()
    }

    /// Reads once, after the descriptor was found readable, and queues what there was. What a person
    /// wishes instead comes back.
    ///
    /// # Errors
    /// Where it cannot be read. Nothing more comes of it then, and no end: the command must not take
    /// what it has for all there was.
    pub fn pump(&mut self, link: &mut AgentLink) -> io::Result<Option<KeyAction>> {
        if self.typing.is_none() {
            return self.pump_bytes(link).map(|()| None);
        }
        let wish = self.pump_keys();
        self.pass_on(link);
        Ok(wish)
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
            // The terminal is gone. There is no other end of it: Ctrl-D is a byte.
            _ => return Some(KeyAction::HangUp),
        };
        let wish = typing.keys.pass(&typed[..count], &mut typing.held);
        typing.held.truncate(HELD);
        wish
    }

    /// Queues keys that were held, as many as the agent takes now.
    pub fn pass_on(&mut self, link: &mut AgentLink) {
        while self.passes(link)
            && let Some(Typing { held, .. }) = &mut self.typing
            && !held.is_empty()
        {
            let count = held.len().min(self.credit).min(STREAM_PAYLOAD);
            link.outbox.push(FrameKind::Stdin, link.tag, &held[..count]);
            self.credit -= count;
            held.drain(..count);
        }
    }

    /// The agent takes this much more.
    pub fn allow(&mut self, bytes: u32) -> Result<(), ProtocolViolation> {
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

/// Whether this error means that there is no input, as of a terminal that hung up or is another's, or
/// where nohup gives its program a standard input that nobody can read.
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

    /// What was queued, as if the line had taken it.
    fn sent(link: &mut AgentLink) -> usize {
        let count = link.outbox.pending().len();
        link.outbox.sent(count);
        count
    }

    #[test]
    fn the_way_out_is_open_when_the_guest_takes_no_more_keys() {
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
        // Twice as much as is held, and the end of it is what is lost.
        for key in *b"yz" {
            for _ in 0..HELD / TYPED {
                assert_eq!(typed(&mut feed, &mut link, &[key; TYPED]), None);
            }
        }
        assert_eq!(sent(&mut link), 0);
        let held = &feed.typing.as_ref().unwrap().held;
        assert_eq!((held.len(), held.last()), (HELD, Some(&b'y')));
        feed.allow(2).unwrap();
        feed.pass_on(&mut link);
        assert!(sent(&mut link) > 2);
        assert_eq!(feed.credit, 0);
        feed.allow(STDIN_WINDOW as u32).unwrap();
        feed.pass_on(&mut link);
        assert!(sent(&mut link) > STREAM_PAYLOAD);
        assert_eq!(typed(&mut feed, &mut link, b"\r~."), Some(KeyAction::HangUp));
    }
}
