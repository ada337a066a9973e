//! Bringing a VM up: from the decision to the agent's answer.

mod boot;
mod caller;
mod from_template;

pub use self::caller::{StartCaller, StartRemark};

use anyhow::{Context, Result};

use self::boot::{BootedVm, VmBoot};
use self::from_template::TemplateFailure;
use crate::backend::{MemorySource, StreamPurpose};
use crate::host::sparse;
use crate::image::LockedImage;
use crate::lifecycle::manager::VmManager;
use crate::lifecycle::recover::teardown;
use crate::lifecycle::unexpired::acquire_unexpired;
use crate::model::{Refusal, RefusalKind, VmId, VmManifest, VmRecord};

/// How a VM shall be started.
#[derive(Debug, Clone, Copy)]
pub struct StartOptions {
    /// Boot, even where there is a template or one could be made.
    pub cold: bool,
    /// What the conversation with the agent will be for.
    pub purpose: StreamPurpose,
}

/// A VM that was just started, and the conversation with its agent.
#[derive(Debug)]
pub struct StartedVm {
    pub record: VmRecord,
    pub up: BootedVm,
}

/// From created or stopped to started; returns when the agent answers. A VM that was never started goes
/// on from a template of its shape, which is made if need be.
///
/// Errors leave the VM stopped, with what went wrong on record.
pub fn start(
    manager: &VmManager,
    id: &VmId,
    way: StartOptions,
    caller: &mut StartCaller<'_>,
) -> Result<StartedVm> {
    // Before the VM's lock: images come first in the order of locks.
    let image = image_of(manager, id)?;
    let (record, _lock) = acquire_unexpired(manager, id)?;
    let backend = manager.backend_of(&record.manifest)?;
    let image = image_to_boot(&record.manifest, image.as_ref())?;
    let files = image.map(LockedImage::boot_files);
    manager.change_on_the_way_up(id, |record| record.begin_start())?;
    caller.timings.end("prepare");

    let boot = VmBoot {
        manager,
        record: &record,
        backend: backend.as_ref(),
        files: files.as_ref(),
        purpose: way.purpose,
    };
    let started = bring_up(&boot, image, way, caller).and_then(|up| {
        let record = manager.change_on_the_way_up(id, |record| {
            record.finish_start()?;
            Ok(record.clone())
        })?;
        Ok(StartedVm { record, up })
    });
    started.or_else(|error| {
        // Also when only the last line of the record could not be written: a VM that the user was
        // told did not start must not run.
        undo(manager, id, &error).with_context(|| format!("while undoing: {error:#}"))?;
        Err(error)
    })
}

fn undo(manager: &VmManager, id: &VmId, error: &anyhow::Error) -> Result<VmRecord> {
    let record = manager.registry.read()?.get(id)?.clone();
    teardown::bring_down(manager, &record, Some(format!("{error:#}")))
}

/// The image a VM boots, held against being replaced; `None` if it boots none, or if it is gone.
fn image_of(manager: &VmManager, id: &VmId) -> Result<Option<LockedImage>> {
    let contents = manager.registry.read()?;
    let manifest = &contents.get(id)?.manifest;
    match manifest.image.is_empty() {
        true => Ok(None),
        false => manager.images()?.find(&manifest.profile),
    }
}

/// That image, checked against what the VM was created with.
fn image_to_boot<'a>(
    manifest: &VmManifest,
    image: Option<&'a LockedImage>,
) -> Result<Option<&'a LockedImage>> {
    if manifest.image.is_empty() {
        return Ok(None);
    }
    let gone = |what: &str| {
        Refusal::new(
            RefusalKind::Host,
            format!("the image of profile {:?} {what}", manifest.profile),
        )
        .hint("delete this VM with 'mayfly rm' and create another")
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
    way: StartOptions,
    caller: &mut StartCaller<'_>,
) -> Result<BootedVm> {
    let Some(image) = image else { return boot.launch(MemorySource::Fresh, None, caller) };
    let disk = boot.paths().disk();
    // A disk that a guest has used fits no frozen memory.
    if disk.exists() {
        return boot.launch(MemorySource::Fresh, None, caller);
    }
    if !way.cold
        && let Some(shape) = from_template::shape_of(&boot.record.manifest, boot.backend, image)?
    {
        match from_template::start(boot, &shape, image, caller) {
            Ok(up) => return Ok(up),
            Err(TemplateFailure::Boot(error)) => return Err(error),
            Err(TemplateFailure::Template(error)) => {
                let why = format!("no template could be used, so the VM boots: {error:#}");
                (caller.remark)(StartRemark::Odd(why));
                from_template::forget(boot, &shape, &disk)?;
            }
        }
    }
    sparse::clone_file(&image.disk_seed(), &disk)?;
    caller.timings.end("disk");
    boot.launch(MemorySource::Fresh, None, caller)
}
