//! A command's standard output or error on the host.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use super::outcome::CapturedOutput;
use crate::protocol::MAX_OUTPUT;
use crate::sys::nonblocking::NonblockingWriter;

/// What to do with a command's output.
#[derive(Debug)]
pub enum OutputSink {
    /// Write it as it arrives.
    Stream(OwnedFd),
    /// Keep the first `limit` bytes.
    Capture { limit: usize },
}

/// A sink in use. It keeps what could not be written at once: at most one payload, because it takes the next
/// one only when it is [`OutputDrain::ready`].
#[derive(Debug)]
pub(super) enum OutputDrain {
    Stream { target: NonblockingWriter, held: Vec<u8>, start: usize },
    Capture { limit: usize, captured: CapturedOutput },
}

impl OutputDrain {
    pub fn new(sink: OutputSink) -> io::Result<OutputDrain> {
        Ok(match sink {
            OutputSink::Stream(fd) => OutputDrain::Stream {
                target: NonblockingWriter::new(fd.into())?,
                held: Vec::new(),
                start: 0,
            },
            OutputSink::Capture { limit } => {
                OutputDrain::Capture { limit, captured: CapturedOutput::default() }
            }
        })
    }

    /// Whether it can take a payload.
    pub fn ready(&self) -> bool {
        match self {
            OutputDrain::Stream { held, .. } => held.is_empty(),
            OutputDrain::Capture { .. } => true,
        }
    }

    /// Takes a payload.
    ///
    /// # Errors
    /// Those of writing; [`io::ErrorKind::BrokenPipe`] if the reader is gone.
    pub fn take(&mut self, payload: &[u8]) -> io::Result<()> {
        match self {
            OutputDrain::Stream { target, held, start } => {
                debug_assert!(held.is_empty());
                let written = target.write(payload)?;
                if written < payload.len() {
                    held.reserve_exact(MAX_OUTPUT);
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

    /// The descriptor to wait for, if some bytes are still to be written.
    pub fn waits_for(&self) -> Option<BorrowedFd<'_>> {
        match self {
            OutputDrain::Stream { target, held, .. } if !held.is_empty() => Some(target.as_fd()),
            _ => None,
        }
    }

    /// Writes as much of the kept bytes as possible.
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

    /// What was captured.
    pub fn captured(self) -> CapturedOutput {
        match self {
            OutputDrain::Stream { .. } => CapturedOutput::default(),
            OutputDrain::Capture { captured, .. } => captured,
        }
    }
}
