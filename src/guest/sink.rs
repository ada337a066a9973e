//! Where a command's output goes.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};

use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::outcome::Captured;
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
    Stream { target: Target, held: Vec<u8>, start: usize },
    Capture { limit: usize, captured: Captured },
}

/// A descriptor of the user's, which other processes may share: making it non-blocking would
/// change it for them.
#[derive(Debug)]
pub(super) enum Target {
    /// A file or a device that takes what it is given.
    Patient(File),
    /// Our own non-blocking opening of the same pipe or terminal.
    Own(File),
    /// Something that can only be asked whether it has room.
    Shared(File),
}

impl Drain {
    pub fn new(sink: Sink) -> io::Result<Drain> {
        Ok(match sink {
            Sink::Stream(fd) => {
                Drain::Stream { target: Target::new(fd.into())?, held: Vec::new(), start: 0 }
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
    /// The target's; [`ErrorKind::BrokenPipe`] when nobody reads it any more.
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
            Drain::Stream { target, held, .. } if !held.is_empty() => Some(target.file().as_fd()),
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

impl Target {
    fn new(file: File) -> io::Result<Target> {
        let kind = file.metadata()?.file_type();
        let is_terminal = std::io::IsTerminal::is_terminal(&file);
        if kind.is_file() || (kind.is_char_device() && !is_terminal) {
            return Ok(Target::Patient(file));
        }
        if kind.is_fifo() || is_terminal {
            // Opening through /proc makes a new description with flags of its own. It may be
            // forbidden, as to a user who inherited another's pipe.
            let own = OpenOptions::new()
                .write(true)
                .custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY)
                .open(format!("/proc/self/fd/{}", file.as_raw_fd()));
            if let Ok(own) = own {
                return Ok(Target::Own(own));
            }
        }
        Ok(Target::Shared(file))
    }

    fn file(&self) -> &File {
        match self {
            Target::Patient(file) | Target::Own(file) | Target::Shared(file) => file,
        }
    }

    /// Writes what the target takes now, without blocking.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut written = 0;
        while written < bytes.len() {
            let rest = &bytes[written..];
            let result = match self {
                Target::Patient(file) | Target::Own(file) => file.write(rest),
                // A pipe that has room for anything has room for PIPE_BUF bytes.
                Target::Shared(file) if has_room(file) => {
                    file.write(&rest[..rest.len().min(libc::PIPE_BUF)])
                }
                Target::Shared(_) => break,
            };
            match result {
                Ok(count) => written += count,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        Ok(written)
    }
}

fn has_room(file: &File) -> bool {
    let mut fds = [PollFd::new(file.as_fd(), PollFlags::POLLOUT)];
    // An error condition counts as room: writing brings it to light.
    poll(&mut fds, PollTimeout::ZERO).is_ok_and(|ready| ready > 0)
}
