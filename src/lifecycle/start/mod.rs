//! `start`: from the choice between booting and a template to the agent's answer.

mod boot;
mod caller;
mod from_pool;
mod from_template;
mod identity;
mod stall;

pub use self::caller::{StartCaller, StartRemark};
pub use self::from_pool::greet;
pub use self::from_template::{shape_of, warm_up};

use anyhow::{Context, Result};

use self::boot::{BootedVm, VmBoot};
use self::from_template::TemplateFailure;
use crate::backend::{MemorySource, StreamPurpose};
use crate::image::LockedImage;
use crate::lifecycle::manager::VmManager;
use crate::lifecycle::network::{BoundPorts, report_on};
use crate::lifecycle::recover::teardown;
use crate::lifecycle::unexpired::acquire_unexpired;
use crate::model::{Isolation, Refusal, RefusalKind, VmId, VmManifest, VmRecord};

/// How to start a VM.
#[derive(Debug, Clone, Copy)]
pub struct StartOptions {
    /// Boot, even if there is a template or one could be made.
    pub cold: bool,
    /// What the connection to the agent is for.
    pub purpose: StreamPurpose,
}

/// A VM that was just started, with a connection to its agent.
#[derive(Debug)]
pub struct StartedVm {
    pub record: VmRecord,
    pub booted: BootedVm,
}

/// Starts a created or stopped VM. Returns when its agent answers. A VM that was never started
/// continues from a template of its shape, which is made if it is missing.
///
/// # Errors
/// `Expired`, `WrongState`, `Host` if the image is gone or the VM does not boot. The VM is then
/// stopped, with the error on record.
pub fn start(
    manager: &VmManager,
    id: &VmId,
    options: StartOptions,
    caller: &mut StartCaller<'_>,
) -> Result<StartedVm> {
    // Before the VM's lock: image locks come first in the lock order.
    let image = image_of(manager, id)?;
    let (record, _lock) = acquire_unexpired(manager, id)?;
    record.check_not_pooled("cannot be started")?;
    let backend = manager.backend_of(&record.manifest)?;
    let image = image_to_boot(&record.manifest, image.as_ref())?;
    if record.manifest.isolation() == Isolation::None {
        (caller.remark)(StartRemark::NotIsolated);
    }
    let files = image.map(LockedImage::boot_files);
    let ports = BoundPorts::bind(&record.manifest.network.publish)?;
    manager.change_starting(id, |record| record.begin_start())?;
    caller.timings.end("prepare");

    let boot = VmBoot {
        manager,
        record: &record,
        backend: backend.as_ref(),
        files: files.as_ref(),
        purpose: options.purpose,
        ports: &ports,
    };
    let started = bring_up(&boot, image, options, caller).and_then(|booted| {
        let record = manager.change_starting(id, |record| {
            record.finish_start()?;
            Ok(record.clone())
        })?;
        Ok(StartedVm { record: report_on(manager, record)?, booted })
    });
    let started = started.or_else(|error| {
        // Also needed if only the record could not be written: the caller reports that the VM did not
        // start, so it must not run.
        let undo = || {
            let record = manager.registry.read()?.get(id)?.clone();
            teardown::bring_down(manager, &record, Some(Refusal::lines(&error).join("\n")))
        };
        undo().with_context(|| format!("while undoing: {error:#}"))?;
        Err(error)
    })?;
    for (wanted, port) in record.manifest.network.publish.iter().zip(started.record.published()) {
        if wanted.host_port == 0 {
            (caller.remark)(StartRemark::Published(*port));
        }
    }
    Ok(started)
}

/// The image a VM boots, locked against replacement; `None` if it boots none or the image is gone.
fn image_of(manager: &VmManager, id: &VmId) -> Result<Option<LockedImage>> {
    let contents = manager.registry.read()?;
    let manifest = &contents.get(id)?.manifest;
    if manifest.image.is_empty() {
        return Ok(None);
    }
    manager.images()?.find(&manifest.profile)
}

/// The same image, checked against what the VM was created with.
fn image_to_boot<'a>(
    manifest: &VmManifest,
    image: Option<&'a LockedImage>,
) -> Result<Option<&'a LockedImage>> {
    if manifest.image.is_empty() {
        return Ok(None);
    }
    let gone = |what: &str| {
        let message = format!("the image of profile {:?} {what}", manifest.profile);
        Refusal::new(RefusalKind::Host, message)
            .hint(format!("delete this VM: mayfly rm {}", manifest.display_name()))
    };
    let image = image.ok_or_else(|| gone("is gone"))?;
    if image.id() != manifest.image {
        return Err(gone("was rebuilt since this VM was created").into());
    }
    image.verify()?;
    Ok(Some(image))
}

fn bring_up(
    boot: &VmBoot,
    image: Option<&LockedImage>,
    options: StartOptions,
    caller: &mut StartCaller<'_>,
) -> Result<BootedVm> {
    let Some(image) = image else { return boot.launch(MemorySource::Fresh, None, caller) };
    let disk = boot.paths().disk();
    // A disk that a guest has used does not fit any frozen memory.
    if disk.exists() {
        return boot.launch(MemorySource::Fresh, None, caller);
    }
    if !options.cold
        && let Some(shape) = from_template::shape_of(&boot.record.manifest, boot.backend, image)?
    {
        match from_template::start(boot, &shape, image, caller) {
            Ok(booted) => return Ok(booted),
            Err(TemplateFailure::Boot(error)) => return Err(error),
            Err(TemplateFailure::Template(error)) => {
                let why = "no template could be used, so the VM boots";
                for line in Refusal::lines(&error.context(why)) {
                    (caller.remark)(StartRemark::Warning(line));
                }
                from_template::discard(boot, &shape, &disk)?;
            }
        }
    }
    boot.with_disk_seed(image, |seed| boot.copy_disk(seed))?;
    caller.timings.end("disk");
    boot.launch(MemorySource::Fresh, None, caller)
}
