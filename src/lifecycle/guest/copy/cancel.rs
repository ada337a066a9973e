//! Cancelling a thread that copies files.

use std::fmt;
use std::fs::File;
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::AsFd;
use std::sync::OnceLock;

use anyhow::{Context, Result};
use nix::sys::eventfd::{EfdFlags, EventFd};

use crate::host::signals::{SignalInterrupt, SignalNumber};
use crate::sys::nonblocking::NonblockingWriter;
use crate::sys::poll::{self, PollFlags};

/// A flag that stays set once it is set, with a descriptor to wait for.
#[derive(Debug)]
pub struct CancelEvent {
    event: EventFd,
    /// Why it was set: a signal, or `None` because the other side has ended.
    reason: OnceLock<Option<SignalNumber>>,
}

/// The error of a thread that was cancelled, or whose reader is gone. It does not say why.
#[derive(Debug)]
struct Cancelled;

impl fmt::Display for Cancelled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("it was cancelled")
    }
}

impl std::error::Error for Cancelled {}

/// Whether an error means that the thread was cancelled.
pub fn was_cancelled(error: &anyhow::Error) -> bool {
    error
        .chain()
        .filter_map(|cause| cause.downcast_ref::<io::Error>()?.get_ref())
        .any(|inner| inner.is::<Cancelled>())
}

impl CancelEvent {
    /// # Errors
    /// No more file descriptors are available.
    pub fn new() -> Result<CancelEvent> {
        let flags = EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK;
        let event = EventFd::from_flags(flags).context("cannot make an event")?;
        Ok(CancelEvent { event, reason: OnceLock::new() })
    }

    /// Cancels the work. The first reason is kept.
    pub fn set(&self, reason: Option<SignalNumber>) {
        let _ = self.reason.set(reason);
        let _ = self.event.write(1);
    }

    pub fn is_set(&self) -> bool {
        self.reason.get().is_some()
    }

    /// Fails if the work was cancelled.
    pub fn check(&self) -> io::Result<()> {
        if self.is_set() { Err(io::Error::other(Cancelled)) } else { Ok(()) }
    }

    /// The signal that cancelled the work.
    pub fn interrupted(&self) -> Option<SignalInterrupt> {
        self.reason.get().copied().flatten().map(SignalInterrupt)
    }
}

/// One end of a pipe between two threads, whose other end is closed when the other thread has ended.
#[derive(Debug)]
pub struct CancellablePipe<'a> {
    pub pipe: File,
    pub cancel: &'a CancelEvent,
}

impl Read for CancellablePipe<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.cancel.check()?;
        self.pipe.read(buffer)
    }
}

impl Write for CancellablePipe<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.cancel.check()?;
        self.pipe.write(bytes).map_err(|error| match error.kind() {
            ErrorKind::BrokenPipe => io::Error::other(Cancelled),
            _ => error,
        })
    }

    fn flush(&mut self) -> io::Result<()> {
        self.pipe.flush()
    }
}

/// A descriptor that may block for as long as its reader likes.
#[derive(Debug)]
pub struct CancellableFile<'a> {
    pub writer: NonblockingWriter,
    pub cancel: &'a CancelEvent,
}

impl Write for CancellableFile<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        loop {
            self.cancel.check()?;
            match self.writer.write(bytes)? {
                0 if !bytes.is_empty() => {}
                count => return Ok(count),
            }
            let room = ((), self.writer.as_fd(), PollFlags::POLLOUT);
            poll::ready(&[room, ((), self.cancel.event.as_fd(), PollFlags::POLLIN)], None)?;
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
