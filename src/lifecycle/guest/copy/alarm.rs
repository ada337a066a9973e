//! Ending a thread that moves files when nobody waits for it any more.

use std::fmt;
use std::fs::File;
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::AsFd;
use std::sync::OnceLock;

use anyhow::{Context, Result};
use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::signal::Signal;

use crate::host::signals::SignalInterrupt;
use crate::sys::nonblocking::Outlet;
use crate::sys::poll::{self, PollFd, PollFlags};

/// Rings once, and from then on.
#[derive(Debug)]
pub struct CancelEvent {
    event: EventFd,
    /// Why it rang: a signal, or the other side has ended.
    why: OnceLock<Option<Signal>>,
}

/// The error of a thread that was ended, or whose stream nobody reads any more. Why, others know.
#[derive(Debug)]
struct Stopped;

impl fmt::Display for Stopped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("it was given up")
    }
}

impl std::error::Error for Stopped {}

/// Whether that is what is behind an error.
pub fn was_stopped(error: &anyhow::Error) -> bool {
    error
        .chain()
        .filter_map(|cause| cause.downcast_ref::<io::Error>()?.get_ref())
        .any(|inner| inner.is::<Stopped>())
}

impl CancelEvent {
    /// # Errors
    /// Where there are no more descriptors.
    pub fn new() -> Result<CancelEvent> {
        let flags = EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK;
        let event = EventFd::from_flags(flags).context("cannot make an event")?;
        Ok(CancelEvent { event, why: OnceLock::new() })
    }

    /// Ends the work. The first reason counts.
    pub fn ring(&self, why: Option<Signal>) {
        let _ = self.why.set(why);
        let _ = self.event.write(1);
    }

    pub fn rang(&self) -> bool {
        self.why.get().is_some()
    }

    /// Fails once it rang.
    ///
    /// # Errors
    /// [`Stopped`].
    pub fn check(&self) -> io::Result<()> {
        if self.rang() { Err(io::Error::other(Stopped)) } else { Ok(()) }
    }

    /// The signal that it rang for.
    pub fn interrupted(&self) -> Option<SignalInterrupt> {
        self.why.get().copied().flatten().map(SignalInterrupt)
    }
}

/// Our end of a pipe between two threads; the other end is closed when the other thread has ended.
#[derive(Debug)]
pub struct CancellablePipe<'a> {
    pub pipe: File,
    pub alarm: &'a CancelEvent,
}

impl Read for CancellablePipe<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.alarm.check()?;
        self.pipe.read(buffer)
    }
}

impl Write for CancellablePipe<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.alarm.check()?;
        self.pipe.write(bytes).map_err(|error| match error.kind() {
            ErrorKind::BrokenPipe => io::Error::other(Stopped),
            _ => error,
        })
    }

    fn flush(&mut self) -> io::Result<()> {
        self.pipe.flush()
    }
}

/// A descriptor of the user's, which may take nothing for as long as it likes.
#[derive(Debug)]
pub struct CancellableFile<'a> {
    pub outlet: Outlet,
    pub alarm: &'a CancelEvent,
}

impl Write for CancellableFile<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        loop {
            self.alarm.check()?;
            match self.outlet.write(bytes)? {
                0 if !bytes.is_empty() => {}
                count => return Ok(count),
            }
            let mut fds = [
                PollFd::new(self.outlet.as_fd(), PollFlags::POLLOUT),
                PollFd::new(self.alarm.event.as_fd(), PollFlags::POLLIN),
            ];
            poll::wait(&mut fds, None)?;
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
