//! Waiting for a store's lock: with a word about it, and no longer than the caller wants.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Result;

use crate::host::lock::{FileLock, busy};
use crate::host::tool::ToolInterrupted;
use crate::image::progress::ProgressSink;

/// Between two tries. Builds take seconds, so nobody minds ten milliseconds.
const PAUSE: Duration = Duration::from_millis(10);

/// Waits shorter than this are not worth mentioning.
const UNREMARKABLE: Duration = Duration::from_millis(200);

/// How long to wait for a lock.
#[derive(Debug, Clone, Copy)]
pub enum LockWait {
    /// Errors: `Busy` afterwards.
    Until(Instant),
    /// Until the caller gives up: for work that takes as long as it takes.
    WhileWanted,
}

/// Waits until `take` gets the lock at `path`. `what` names it, as in "the image of debian-base".
pub fn wait_for(
    path: &Path,
    take: impl Fn(&Path) -> Result<Option<FileLock>>,
    what: &str,
    wait: LockWait,
    progress: &mut dyn ProgressSink,
) -> Result<FileLock> {
    let started = Instant::now();
    let mut mentioned = false;
    loop {
        if let Some(lock) = take(path)? {
            return Ok(lock);
        }
        if progress.cancelled() {
            return Err(ToolInterrupted.into());
        }
        if let LockWait::Until(deadline) = wait
            && Instant::now() >= deadline
        {
            return Err(busy(path, what).into());
        }
        if !mentioned && started.elapsed() >= UNREMARKABLE {
            progress.note(&format!("waiting: {}", busy(path, what)));
            mentioned = true;
        }
        std::thread::sleep(PAUSE);
    }
}
