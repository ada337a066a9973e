//! Where a command's output goes.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use super::outcome::Captured;
use crate::host::outlet::Outlet;
use crate::protocol::MAX_PAYLOAD;

/// What to do with an output.
#[derive(Debug)]
pub enum Sink {
    /// Pass it on as it comes.
    Stream(OwnedFd),
    /// Keep the first `limit` bytes.
    Capture { limit: usize },
}

/// A sink in use. It takes a payload when it is [`Drain::ready`] and holds what could not be passed
/// on at once, at most one payload.
#[derive(Debug)]
pub(super) enum Drain {
    Stream { target: Outlet, held: Vec<u8>, start: usize },
    Capture { limit: usize, captured: Captured },
}

impl Drain {
    pub fn new(sink: Sink) -> io::Result<Drain> {
        Ok(match sink {
            Sink::Stream(fd) => {
                Drain::Stream { target: Outlet::new(fd.into())?, held: Vec::new(), start: 0 }
            }
            Sink::Capture { limit } => Drain::Capture { limit, captured: Captured::default() },
        })
    }

    /// Whether it takes a payload.
    pub fn ready(&self) -> bool {
        match self {
            Drain::Stream { held, .. } => held.is_empty(),
            Drain::Capture { .. } => true,
        }
    }

    /// Takes a payload.
    ///
    /// # Errors
    /// The target's; [`io::ErrorKind::BrokenPipe`] when nobody reads it any more.
    pub fn take(&mut self, payload: &[u8]) -> io::Result<()> {
        match self {
            Drain::Stream { target, held, start } => {
                debug_assert!(held.is_empty());
                let written = target.write(payload)?;
                if written < payload.len() {
                    held.reserve_exact(MAX_PAYLOAD);
                    held.extend_from_slice(&payload[written..]);
                    *start = 0;
                }
            }
            Drain::Capture { limit, captured } => {
                let room = *limit - captured.bytes.len();
                let kept = payload.len().min(room);
                captured.bytes.extend_from_slice(&payload[..kept]);
                captured.truncated |= kept < payload.len();
            }
        }
        Ok(())
    }

    /// The descriptor to wait for, while something is held.
    pub fn waits_for(&self) -> Option<BorrowedFd<'_>> {
        match self {
            Drain::Stream { target, held, .. } if !held.is_empty() => Some(target.as_fd()),
            _ => None,
        }
    }

    /// Passes on what is held as far as possible.
    ///
    /// # Errors
    /// As for [`Drain::take`].
    pub fn drain(&mut self) -> io::Result<()> {
        if let Drain::Stream { target, held, start } = self {
            *start += target.write(&held[*start..])?;
            if *start == held.len() {
                held.clear();
                *start = 0;
            }
        }
        Ok(())
    }

    /// What was kept.
    pub fn captured(self) -> Captured {
        match self {
            Drain::Stream { .. } => Captured::default(),
            Drain::Capture { captured, .. } => captured,
        }
    }
}
