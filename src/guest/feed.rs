//! Standard input on its way to the command.

use std::io::{self, ErrorKind, IsTerminal};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;

use super::keys::{Keys, Wish};
use super::link::Link;
use crate::protocol::{Kind, STDIN_WINDOW, STREAM_PAYLOAD, Violation};

/// The most that a terminal gives at once is a line of this length.
const TYPED: usize = 4096;

/// An input, and how much of it the agent takes at the moment.
#[derive(Debug)]
pub(super) struct Feed {
    /// `None` once its end was sent.
    source: Option<OwnedFd>,
    /// Where it is a terminal.
    keys: Option<Keys>,
    credit: usize,
}

impl Feed {
    /// A file, a pipe or whatever else has an end.
    pub fn of_bytes(source: Option<OwnedFd>) -> Feed {
        Feed { source, keys: None, credit: STDIN_WINDOW }
    }

    /// A terminal.
    pub fn of_keys(source: OwnedFd) -> Feed {
        Feed { source: Some(source), keys: Some(Keys::new()), credit: STDIN_WINDOW }
    }

    /// The descriptor to wait for, while there is something to do with its bytes.
    pub fn waits_for(&self, link: &Link) -> Option<BorrowedFd<'_>> {
        let source = self.source.as_ref()?;
        // A key that was held back needs room too.
        let least = if self.keys.is_some() { 2 } else { 1 };
        (self.credit >= least && link.outbox.takes_data()).then(|| source.as_fd())
    }

    /// Reads once, after the descriptor was found readable, and queues what there was. What a person
    /// wishes instead comes back.
    ///
    /// # Errors
    /// Where it cannot be read. Nothing more comes of it then, and no end: the command must not take
    /// what it has for all there was.
    pub fn pump(&mut self, link: &mut Link) -> io::Result<Option<Wish>> {
        match &mut self.keys {
            Some(_) => Ok(self.pump_keys(link)),
            None => self.pump_bytes(link).map(|()| None),
        }
    }

    fn pump_bytes(&mut self, link: &mut Link) -> io::Result<()> {
        let Some(source) = &self.source else { return Ok(()) };
        let limit = self.credit.min(STREAM_PAYLOAD);
        let read = link.outbox.push_with(Kind::Stdin, link.tag, limit, |room| read(source, room));
        match read {
            Ok(count) if count > 0 => self.credit -= count,
            Err(error) if not_now(&error) => {}
            Err(error) if !is_no_input(&error, source) => {
                self.source = None;
                return Err(error);
            }
            _ => {
                link.outbox.push(Kind::StdinEof, link.tag, &[]);
                self.source = None;
            }
        }
        Ok(())
    }

    fn pump_keys(&mut self, link: &mut Link) -> Option<Wish> {
        let (source, keys) = (self.source.as_ref()?, self.keys.as_mut()?);
        let mut typed = [0; TYPED];
        let limit = TYPED.min(self.credit - 1);
        let count = match read(source, &mut typed[..limit]) {
            Ok(count) if count > 0 => count,
            Err(error) if not_now(&error) => return None,
            // The terminal is gone. There is no other end of it: Ctrl-D is a byte.
            _ => return Some(Wish::HangUp),
        };
        let mut passed = Vec::with_capacity(count + 1);
        let wish = keys.pass(&typed[..count], &mut passed);
        if !passed.is_empty() {
            link.outbox.push(Kind::Stdin, link.tag, &passed);
            self.credit -= passed.len();
        }
        wish
    }

    /// The agent takes this much more.
    pub fn allow(&mut self, bytes: u32) -> Result<(), Violation> {
        let credit = self.credit + bytes as usize;
        if credit > STDIN_WINDOW {
            return Err(Violation::Unexpected(Kind::StdinCredit));
        }
        self.credit = credit;
        Ok(())
    }
}

fn read(source: &OwnedFd, room: &mut [u8]) -> io::Result<usize> {
    nix::unistd::read(source, room).map_err(io::Error::from)
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

fn not_now(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted)
}
