//! `inspect`: everything about one VM.

use std::path::PathBuf;

use anyhow::Result;

use crate::host::clock;
use crate::host::directory::{self, DiskUsage};
use crate::lifecycle::full_disk::why_waiting;
use crate::lifecycle::manager::VmManager;
use crate::lifecycle::network::report_on;
use crate::model::{ClockReading, ProcessId, VmPaths, VmRecord, VmRef};

/// Clock ticks per second in /proc, which are the same on every x86-64 kernel (USER_HZ).
const TICKS: f64 = 100.0;

/// What is known about a VM.
#[derive(Debug, Clone)]
pub struct VmInspection {
    pub record: VmRecord,
    pub paths: VmPaths,
    /// What its disk takes; `None` before its first start.
    pub disk: Option<DiskUsage>,
    /// The directory of its image, if that is still there.
    pub image: Option<PathBuf>,
    /// Unix seconds.
    pub started_at: Option<f64>,
    pub now: ClockReading,
}

/// Looks at a VM without changing anything, even if it has expired.
///
/// # Errors
/// `NotFound` if there is no such VM.
pub fn inspect(manager: &VmManager, vm: &VmRef) -> Result<VmInspection> {
    let now = clock::now()?;
    let contents = manager.registry.read()?;
    let id = contents.resolve(vm)?;
    let mut record = report_on(manager, manager.observe(contents.get(&id)?.clone(), &now)?)?;
    record.waits = why_waiting(manager, &record);
    let paths = manager.paths(&id);
    let disk = paths.disk();
    let disk = disk.exists().then(|| directory::usage(&disk));
    let (profile, digest) = (&record.manifest.profile, &record.manifest.image);
    let images = manager.list_images()?;
    let is_there =
        images.iter().any(|(image, _)| image.profile == *profile && image.id() == *digest);
    let image = is_there.then(|| manager.settings.directories.artifacts.join(profile.as_str()));
    let process = record.state.instance().map(|instance| &instance.process);
    let started_at = process.and_then(|process| start_of(process, &now));
    Ok(VmInspection { record, paths, disk, image, started_at, now })
}

/// When a process of this boot started, in Unix seconds.
fn start_of(process: &ProcessId, now: &ClockReading) -> Option<f64> {
    let since_boot = process.start_ticks as f64 / TICKS;
    (process.boot_id == now.boot_id).then_some(now.unix - now.boottime + since_boot)
}
