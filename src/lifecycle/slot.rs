//! Waiting for a place among the active VMs, in order of arrival.
//!
//! Each waiting command holds the lock of a file, its ticket, whose name has the time of its arrival. It tries to get a
//! place when no earlier ticket is locked. A killed command releases its lock, so no command waits for it.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::Result;

use super::manager::VmManager;
use super::observe::watch_registry;
use crate::host::lock::FileLock;
use crate::host::tool::ToolInterrupted;
use crate::host::transient_lock::TransientLock;
use crate::host::{clock, directory};
use crate::image::ProgressSink;
use crate::model::layout::LOCKS;
use crate::model::{Refusal, RefusalKind, TimeSpan};

/// How often to look for signals, killed commands and expired VMs, none of which changes the registry.
const TICK: Duration = Duration::from_millis(250);

/// The end of a ticket's name.
pub const SUFFIX: &str = ".ticket";

/// Calls `attempt` until it does not fail with `LimitReached`, but for at most `limit`, and only after the commands
/// that have waited for longer.
///
/// # Errors
/// Those of `attempt`; `LimitReached` after `limit`; [`ToolInterrupted`] if the caller cancelled.
pub fn in_turn<T>(
    manager: &VmManager,
    limit: TimeSpan,
    progress: &mut dyn ProgressSink,
    mut attempt: impl FnMut() -> Result<T>,
) -> Result<T> {
    let deadline = Instant::now() + limit.0;
    let watch = watch_registry(manager)?;
    let ticket = SlotTicket::take(manager)?;
    let mut is_announced = false;
    loop {
        let ahead = ticket.count_ahead()?;
        let mut refusal = Refusal::new(RefusalKind::LimitReached, "other commands came first");
        if ahead == 0 {
            match attempt() {
                Err(error) if Refusal::is_of_kind(&error, RefusalKind::LimitReached) => {
                    refusal = error.downcast::<Refusal>()?;
                }
                done => return done,
            }
        }
        if Instant::now() >= deadline {
            refusal.message =
                format!("no place for another VM within {limit}: {}", refusal.message);
            return Err(refusal.into());
        }
        if !is_announced {
            let others = match ahead {
                0 => String::new(),
                1 => ", after 1 other command".into(),
                count => format!(", after {count} other commands"),
            };
            progress.note(&format!("waiting up to {limit} for a place for another VM{others}"));
            is_announced = true;
        }
        if progress.cancelled() {
            return Err(ToolInterrupted.into());
        }
        watch.wait(&[], None, Some(deadline.min(Instant::now() + TICK)))?;
    }
}

/// A place in the queue, until it is dropped.
struct SlotTicket {
    directory: PathBuf,
    name: String,
    _lock: TransientLock,
}

impl SlotTicket {
    fn take(manager: &VmManager) -> Result<SlotTicket> {
        let directory = manager.settings.directories.state.join(LOCKS);
        loop {
            let (arrived, pid) = (clock::unix_time().as_nanos(), std::process::id());
            let name = format!("{arrived:024}-{pid}{SUFFIX}");
            // A command that looks for dead tickets may hold the lock of a new one for a moment.
            if let Some(lock) = TransientLock::try_acquire(&directory.join(&name))? {
                return Ok(SlotTicket { directory, name, _lock: lock });
            }
        }
    }

    /// How many commands have waited for longer. Deletes the tickets of killed ones.
    fn count_ahead(&self) -> Result<usize> {
        let names = directory::names(&self.directory)?;
        let mut count = 0;
        for name in names.iter().filter(|name| name.ends_with(SUFFIX) && **name < self.name) {
            match FileLock::try_acquire(&self.directory.join(name))? {
                Some(dead) => dead.remove()?,
                None => count += 1,
            }
        }
        Ok(count)
    }
}
