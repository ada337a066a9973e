//! Standard input on its way to the command.

use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use super::link::Link;
use crate::protocol::{Kind, STDIN_WINDOW, STREAM_PAYLOAD, Violation};

/// An input, and how much of it the agent takes at the moment.
#[derive(Debug)]
pub(super) struct Feed {
    /// `None` once its end was sent.
    source: Option<OwnedFd>,
    credit: usize,
}

impl Feed {
    pub fn new(source: Option<OwnedFd>) -> Feed {
        Feed { source, credit: STDIN_WINDOW }
    }

    /// The descriptor to wait for, while there is something to do with its bytes.
    pub fn waits_for(&self, link: &Link) -> Option<BorrowedFd<'_>> {
        let source = self.source.as_ref()?;
        (self.credit > 0 && link.outbox.takes_data()).then(|| source.as_fd())
    }

    /// Reads once, after the descriptor was found readable, and queues what there was.
    pub fn pump(&mut self, link: &mut Link) {
        let Some(source) = &self.source else { return };
        let limit = self.credit.min(STREAM_PAYLOAD);
        let read = link.outbox.push_with(Kind::Stdin, link.tag, limit, |room| {
            nix::unistd::read(source, room).map_err(io::Error::from)
        });
        match read {
            Ok(count) if count > 0 => self.credit -= count,
            Err(error)
                if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
            // The end; or an error, as of a terminal that hung up, which ends the input as well.
            _ => {
                link.outbox.push(Kind::StdinEof, link.tag, &[]);
                self.source = None;
            }
        }
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
