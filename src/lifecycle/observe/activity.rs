//! Where a VM stands and what is to be expected of it, for those who wait for that to change.

use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use anyhow::Result;

use crate::host::clock;
use crate::host::file_watch::{FileWatch, WakeReason};
use crate::lifecycle::manager::VmManager;
use crate::model::{VmId, VmRecord};
use crate::sys::process::PidFd;

/// How long an operation on a VM may leave no trace before it is looked at whether it goes on at all.
const LOOK: Duration = Duration::from_secs(1);

/// What is to be expected of a VM.
#[derive(Debug)]
pub enum VmActivity {
    /// Its VMM runs. Its start or its end may be under way.
    Runs(VmRecord, PidFd),
    /// An operation is under way, with no VMM at the moment.
    Changes(VmRecord),
    /// Nothing, as long as nobody does anything. Where it is not at rest, an operation was abandoned.
    Rests(VmRecord),
    /// Nothing any more.
    Gone,
}

impl VmActivity {
    /// Looks at a VM.
    pub fn of(manager: &VmManager, id: &VmId) -> Result<VmActivity> {
        loop {
            let Some(record) = manager.registry.read()?.vms.get(id).cloned() else {
                return Ok(VmActivity::Gone);
            };
            let vmm = manager.process_of(&record)?;
            if !record.is_at_rest() && !manager.registry.is_vm_locked(id)? {
                if manager.registry.read()?.vms.get(id) != Some(&record) {
                    // It was done between the two looks.
                    continue;
                }
                return Ok(VmActivity::Rests(record));
            }
            return Ok(match vmm {
                Some(vmm) => VmActivity::Runs(record, vmm),
                None if record.is_at_rest() => {
                    VmActivity::Rests(manager.observe(record, &clock::boot_id()?)?)
                }
                None => VmActivity::Changes(record),
            });
        }
    }

    /// The VM, as long as there is one.
    pub fn record(&self) -> Option<&VmRecord> {
        match self {
            VmActivity::Runs(record, _)
            | VmActivity::Changes(record)
            | VmActivity::Rests(record) => Some(record),
            VmActivity::Gone => None,
        }
    }

    /// Waits until there may be another course, something else that `watch` hears of, an end of `output`'s
    /// reader, or until `deadline`.
    pub fn wait(
        &self,
        watch: &FileWatch,
        output: Option<BorrowedFd<'_>>,
        deadline: Option<Instant>,
    ) -> Result<WakeReason> {
        match self {
            VmActivity::Runs(_, vmm) => watch.wait(&[vmm.as_fd()], output, deadline),
            VmActivity::Changes(_) => {
                let look = Instant::now() + LOOK;
                let until = deadline.map_or(look, |deadline| deadline.min(look));
                match watch.wait(&[], output, Some(until))? {
                    WakeReason::TimedOut if deadline.is_none_or(|deadline| look < deadline) => {
                        Ok(WakeReason::Changed)
                    }
                    woken => Ok(woken),
                }
            }
            VmActivity::Rests(_) | VmActivity::Gone => watch.wait(&[], output, deadline),
        }
    }
}

/// Hears of every change of the registry.
pub fn watch_registry(manager: &VmManager) -> Result<FileWatch> {
    let watch = FileWatch::new()?;
    watch.arrivals(&manager.settings.directories.state)?;
    Ok(watch)
}
