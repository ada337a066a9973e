//! Waiting for descriptors up to a deadline.

use std::io;
use std::os::fd::BorrowedFd;
use std::time::Instant;

use nix::errno::Errno;
pub use nix::poll::PollFlags;
use nix::poll::{PollFd, PollTimeout, poll};

/// Waits until one of `sources` is ready for its events or the deadline has passed; without a deadline, as long
/// as it takes. Returns the keys of those that are ready: errors and hang-ups count, whatever the events. A
/// signal handler that runs meanwhile does not end the wait.
///
/// # Errors
/// The kernel is out of memory, or the limit on open files is below the number of `sources`.
pub fn ready<K: Copy>(
    sources: &[(K, BorrowedFd<'_>, PollFlags)],
    deadline: Option<Instant>,
) -> io::Result<Vec<K>> {
    let fds = sources.iter().map(|(_, fd, events)| PollFd::new(*fd, *events));
    let mut fds: Vec<PollFd> = fds.collect();
    loop {
        match poll(&mut fds, timeout(deadline)) {
            // The longest timeout is 24 days.
            Ok(0) if deadline.is_some_and(|deadline| Instant::now() < deadline) => {}
            Ok(_) => break,
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    let ready = fds.iter().zip(sources).filter(|(fd, _)| fd.any() == Some(true));
    Ok(ready.map(|(_, (key, ..))| *key).collect())
}

/// [`ready`] for one descriptor. Returns whether it is ready.
///
/// # Errors
/// As for [`ready`].
pub fn wait_for(
    fd: BorrowedFd<'_>,
    events: PollFlags,
    deadline: Option<Instant>,
) -> io::Result<bool> {
    Ok(!ready(&[((), fd, events)], deadline)?.is_empty())
}

/// Whether a descriptor is ready now.
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
