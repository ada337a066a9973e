//! Waiting for descriptors up to a deadline.

use std::io;
use std::os::fd::BorrowedFd;
use std::time::Instant;

use nix::errno::Errno;
pub use nix::poll::{PollFd, PollFlags};
use nix::poll::{PollTimeout, poll};

/// Waits until one of `fds` is ready or the deadline has passed; without a deadline, as long as it takes.
/// Returns whether one is ready. A signal handler that runs meanwhile does not end the waiting.
///
/// # Errors
/// The kernel is out of memory, or the limit on open files is below the number of `fds`.
pub fn wait(fds: &mut [PollFd<'_>], deadline: Option<Instant>) -> io::Result<bool> {
    loop {
        match poll(fds, timeout(deadline)) {
            // The longest timeout is 24 days.
            Ok(0) if deadline.is_some_and(|deadline| Instant::now() < deadline) => {}
            Ok(ready) => return Ok(ready > 0),
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
}

/// [`wait`] for one descriptor.
pub fn wait_for(
    fd: BorrowedFd<'_>,
    events: PollFlags,
    deadline: Option<Instant>,
) -> io::Result<bool> {
    wait(&mut [PollFd::new(fd, events)], deadline)
}

/// [`wait`] for several descriptors, each with a key. Returns the keys of those that are ready.
///
/// # Errors
/// As for [`wait`].
pub fn ready<K: Copy>(
    sources: &[(K, BorrowedFd<'_>, PollFlags)],
    deadline: Option<Instant>,
) -> io::Result<Vec<K>> {
    let mut fds: Vec<PollFd> =
        sources.iter().map(|(_, fd, events)| PollFd::new(*fd, *events)).collect();
    wait(&mut fds, deadline)?;
    let ready = fds.iter().zip(sources).filter(|(fd, _)| fd.any() == Some(true));
    Ok(ready.map(|(_, (key, ..))| *key).collect())
}

/// Whether a descriptor is ready now. Errors and hang-ups count, whatever `events` are asked for.
pub fn is_ready(fd: BorrowedFd<'_>, events: PollFlags) -> bool {
    wait_for(fd, events, Some(Instant::now())).unwrap_or(false)
}

/// A timeout that does not end before `deadline`; `None` never ends.
fn timeout(deadline: Option<Instant>) -> PollTimeout {
    let Some(deadline) = deadline else {
        return PollTimeout::NONE;
    };
    let left = deadline.saturating_duration_since(Instant::now());
    // Rounded up: a timeout that ends too early would turn the last millisecond into a busy loop.
    PollTimeout::try_from(left.as_micros().div_ceil(1000)).unwrap_or(PollTimeout::MAX)
}
