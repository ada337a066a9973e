//! Where a command's output goes.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use super::outcome::CapturedOutput;
use crate::protocol::MAX_PAYLOAD;
use crate::sys::nonblocking::Outlet;

/// What to do with an output.
#[derive(Debug)]
pub enum OutputSink {
    /// Pass it on as it comes.
    Stream(OwnedFd),
    /// Keep the first `limit` bytes.
    Capture { limit: usize },
}

/// A sink in use. It takes a payload when it is [`OutputDrain::ready`] and holds what could not be passed
/// on at once, at most one payload.
#[derive(Debug)]
pub(super) enum OutputDrain {
    Stream { target: Outlet, held: Vec<u8>, start: usize },
    Capture { limit: usize, captured: CapturedOutput },
}

impl OutputDrain {
    pub fn new(sink: OutputSink) -> io::Result<OutputDrain> {
        Ok(match sink {
            OutputSink::Stream(fd) => {
                OutputDrain::Stream { target: Outlet::new(fd.into())?, held: Vec::new(), start: 0 }
            }
            OutputSink::Capture { limit } => {
                OutputDrain::Capture { limit, captured: CapturedOutput::default() }
            }
        })
    }

    /// Whether it takes a payload.
    pub fn ready(&self) -> bool {
        match self {
            OutputDrain::Stream { held, .. } => held.is_empty(),
            OutputDrain::Capture { .. } => true,
        }
    }

    /// Takes a payload.
    ///
    /// # Errors
    /// The target's; [`io::ErrorKind::BrokenPipe`] when nobody reads it any more.
    pub fn take(&mut self, payload: &[u8]) -> io::Result<()> {
        match self {
            OutputDrain::Stream { target, held, start } => {
                debug_assert!(held.is_empty());
                let written = target.write(payload)?;
                if written < payload.len() {
                    held.reserve_exact(MAX_PAYLOAD);
                    held.extend_from_slice(&payload[written..]);
                    *start = 0;
                }
            }
            OutputDrain::Capture { limit, captured } => {
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
            OutputDrain::Stream { target, held, .. } if !held.is_empty() => Some(target.as_fd()),
            _ => None,
        }
    }

    /// Passes on what is held as far as possible.
    ///
    /// # Errors
    /// As for [`OutputDrain::take`].
    pub fn drain(&mut self) -> io::Result<()> {
        if let OutputDrain::Stream { target, held, start } = self {
            *start += target.write(&held[*start..])?;
            if *start == held.len() {
                held.clear();
                *start = 0;
            }
        }
        Ok(())
    }

    /// What was kept.
    pub fn captured(self) -> CapturedOutput {
        match self {
            OutputDrain::Stream { .. } => CapturedOutput::default(),
            OutputDrain::Capture { captured, .. } => captured,
        }
    }
}
