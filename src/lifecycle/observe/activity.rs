//! Where a VM stands and what is to be expected of it, for those who wait for that to change.

use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use anyhow::Result;

use crate::host::process::PidFd;
use crate::host::watch::{Watch, Woken};
use crate::lifecycle::manager::{Manager, this_boot};
use crate::model::{VmId, VmRecord};

/// How long an operation on a VM may leave no trace before it is looked at whether it goes on at all.
const LOOK: Duration = Duration::from_secs(1);

/// What is to be expected of a VM.
#[derive(Debug)]
pub enum Course {
    /// Its VMM runs. Its start or its end may be under way.
    Runs(VmRecord, PidFd),
    /// An operation is under way, with no VMM at the moment.
    Changes(VmRecord),
    /// Nothing, as long as nobody does anything. Where it is not at rest, an operation was abandoned.
    Rests(VmRecord),
    /// Nothing any more.
    Gone,
}

impl Course {
    /// Looks at a VM.
    pub fn of(manager: &Manager, id: &VmId) -> Result<Course> {
        loop {
            let Some(record) = manager.registry.read()?.vms.get(id).cloned() else {
                return Ok(Course::Gone);
            };
            let vmm = manager.process_of(&record)?;
            if !record.is_at_rest() && !manager.registry.is_vm_locked(id)? {
                if manager.registry.read()?.vms.get(id) != Some(&record) {
                    // It was done between the two looks.
                    continue;
                }
                return Ok(Course::Rests(record));
            }
            return Ok(match vmm {
                Some(vmm) => Course::Runs(record, vmm),
                None if record.is_at_rest() => {
                    Course::Rests(manager.observe(record, &this_boot()?)?)
                }
                None => Course::Changes(record),
            });
        }
    }

    /// The VM, as long as there is one.
    pub fn record(&self) -> Option<&VmRecord> {
        match self {
            Course::Runs(record, _) | Course::Changes(record) | Course::Rests(record) => {
                Some(record)
            }
            Course::Gone => None,
        }
    }

    /// Waits until there may be another course, something else that `watch` hears of, an end of `output`'s
    /// reader, or until `deadline`.
    pub fn wait(
        &self,
        watch: &Watch,
        output: Option<BorrowedFd<'_>>,
        deadline: Option<Instant>,
    ) -> Result<Woken> {
        match self {
            Course::Runs(_, vmm) => watch.wait(&[vmm.as_fd()], output, deadline),
            Course::Changes(_) => {
                let look = Instant::now() + LOOK;
                let until = deadline.map_or(look, |deadline| deadline.min(look));
                match watch.wait(&[], output, Some(until))? {
                    Woken::TimedOut if deadline.is_none_or(|deadline| look < deadline) => {
                        Ok(Woken::Changed)
                    }
                    woken => Ok(woken),
                }
            }
            Course::Rests(_) | Course::Gone => watch.wait(&[], output, deadline),
        }
    }
}

/// Hears of every change of the registry.
pub fn watch_registry(manager: &Manager) -> Result<Watch> {
    let watch = Watch::new()?;
    watch.arrivals(&manager.settings.directories.state)?;
    Ok(watch)
}
