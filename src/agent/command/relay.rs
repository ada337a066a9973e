//! Output that goes to the host without passing through the agent's memory.
//!
//! A frame's header is written to a pipe, the command's output is moved behind it, and then everything in the pipe is
//! moved to the port: the kernel passes on the pages that the command wrote. In an emulated guest, copying them
//! twice takes longer than everything else.
//!
//! The driver of ports must be given all that is in the pipe: it announces as many pieces as the pipe has, and the VMM
//! refuses empty ones. So the pipe never has more than one frame.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};

use rustix::io::{Errno, retry_on_intr};
use rustix::pipe::{SpliceFlags, fcntl_setpipe_size, splice};

use crate::protocol::{FrameKind, MAX_OUTPUT, frame_header};

/// With less to read, a frame is copied: moving pages has a cost of its own.
const WORTHWHILE: usize = 32 << 10;

/// Bytes. Pages that are partly full take as much room as others, and the output's pipe has fewer.
const PIPE_SIZE: usize = 2 * MAX_OUTPUT;

const MOVE: SpliceFlags = SpliceFlags::NONBLOCK.union(SpliceFlags::MOVE);

/// At most one frame on its way to the host.
#[derive(Debug, Default)]
pub struct OutputRelay {
    /// The reading end first; `None` before the first frame.
    pipe: Option<(OwnedFd, OwnedFd)>,
    /// Bytes in the pipe.
    in_pipe: usize,
    /// The end of a frame that did not fit into the pipe.
    rest: Vec<u8>,
}

impl OutputRelay {
    /// Whether nothing is on its way.
    pub fn is_empty(&self) -> bool {
        self.in_pipe == 0 && self.rest.is_empty()
    }

    /// Takes a frame of an output, if it has enough to make that worthwhile. Returns how many bytes of output it took.
    /// There must be nothing on its way.
    ///
    /// # Errors
    /// The kernel's; nothing is on its way then.
    pub fn take(&mut self, kind: FrameKind, tag: u64, source: &File) -> io::Result<usize> {
        let unread = rustix::io::ioctl_fionread(source)?;
        let length = usize::try_from(unread).unwrap_or(MAX_OUTPUT).min(MAX_OUTPUT);
        if length < WORTHWHILE {
            return Ok(0);
        }
        let taken = self.fill(&frame_header(kind, tag, length), source, length);
        if taken.is_err() {
            *self = OutputRelay::default();
        }
        taken.map(|()| length)
    }

    fn fill(&mut self, header: &[u8], mut source: &File, mut left: usize) -> io::Result<()> {
        let writer = match &self.pipe {
            Some((_, writer)) => writer,
            None => {
                let (reader, writer) = io::pipe()?;
                fcntl_setpipe_size(&writer, PIPE_SIZE)?;
                &self.pipe.insert((reader.into(), writer.into())).1
            }
        };
        self.in_pipe = retry_on_intr(|| rustix::io::write(writer, header))?;
        while left > 0 {
            match retry_on_intr(|| splice(source, None, writer, None, left, MOVE)) {
                // The pipe is full, because many of the output's pages are not.
                Ok(0) | Err(Errno::AGAIN) => break,
                Ok(count) => {
                    left -= count;
                    self.in_pipe += count;
                }
                Err(errno) => return Err(errno.into()),
            }
        }
        self.rest.resize(left, 0);
        source.read_exact(&mut self.rest)
    }

    /// Moves as much to the host as it takes.
    ///
    /// # Errors
    /// Those of splice(2) and write(2), but not that the stream is full.
    pub fn flush(&mut self, stream: impl AsFd) -> io::Result<()> {
        let Some((reader, _)) = &self.pipe else { return Ok(()) };
        while self.in_pipe > 0 {
            match retry_on_intr(|| splice(reader, None, &stream, None, self.in_pipe, MOVE)) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => self.in_pipe -= count,
                Err(Errno::AGAIN) => return Ok(()),
                Err(errno) => return Err(errno.into()),
            }
        }
        while !self.rest.is_empty() {
            match retry_on_intr(|| rustix::io::write(&stream, &self.rest)) {
                Ok(count) => drop(self.rest.drain(..count)),
                Err(Errno::AGAIN) => return Ok(()),
                Err(errno) => return Err(errno.into()),
            }
        }
        Ok(())
    }
}
