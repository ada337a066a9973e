//! An input whose reading ends when the import is cancelled, whatever it waits for.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use crate::host::tool::ToolInterrupted;
use crate::image::ProgressSink;
use crate::sys::poll::{self, PollFlags};

/// How often waiting for a silent input is interrupted to see whether the import was cancelled.
const TICK: Duration = Duration::from_millis(100);

/// Reads a file, pipe or device, which may be non-blocking. After a cancellation, reading fails.
pub struct CancellableInput<'a> {
    input: File,
    progress: &'a dyn ProgressSink,
}

impl<'a> CancellableInput<'a> {
    pub fn new(input: File, progress: &'a dyn ProgressSink) -> CancellableInput<'a> {
        CancellableInput { input, progress }
    }
}

impl Read for CancellableInput<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        loop {
            if self.progress.cancelled() {
                return Err(io::Error::other(ToolInterrupted));
            }
            let tick = Instant::now() + TICK;
            if poll::wait_for(self.input.as_fd(), PollFlags::POLLIN, Some(tick))? {
                match self.input.read(into) {
                    // Another reader of the same pipe was faster.
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    read => return read,
                }
            }
        }
    }
}

impl Seek for CancellableInput<'_> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.input.seek(to)
    }
}
