//! Starting from a template instead of booting: finding one of the right shape, or making it.
//!
//! If there is none, the start boots a VM into the template's files, freezes it, and continues with the
//! first copy. The frozen VM uses the lock, the sockets and the record of the VM that is being started,
//! so a crash leaves the same traces as one during a boot.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};

use super::boot::{BootedVm, VmBoot};
use super::caller::{StartCaller, StartRemark};
use crate::backend::{Backend, MemorySource};
use crate::guest::{AgentSession, ExecIo, OutputSink};
use crate::host::signals::{InterruptWatch, PendingSignals, SignalInterrupt};
use crate::host::wait::WaitLimit;
use crate::host::{atomic_file, cpu};
use crate::image::LockedImage;
use crate::lifecycle::images::templates;
use crate::model::VmManifest;
use crate::protocol::{ExecProgram, ExecRequest, WireText};
use crate::template::{LockedTemplate, TemplateClaim, TemplateDraft, TemplateShape};

/// Run in a guest before it is frozen, so that what every command needs is in the template's memory and is
/// not read from the disk by each copy. A login shell needs the most; `/bin/true` is not built into it.
const WARM_UP: &str = "/bin/true; exec /bin/sh -c :";

/// How long the agent may take to notice that no client is connected. It needs 100 ms.
const IDLE_TIME: Duration = Duration::from_millis(200);

/// How often a start makes the template. A second time may be necessary if another command deletes the first.
const MAX_ATTEMPTS: usize = 3;

/// The pause between two tries at a template that another command is making.
const RETRY_INTERVAL: Duration = Duration::from_millis(5);

/// The shape of a VM; `None` if it cannot start from a template.
pub fn shape_of(
    manifest: &VmManifest,
    backend: &dyn Backend,
    image: &LockedImage,
) -> Result<Option<TemplateShape>> {
    let Some(vmm) = backend.shape(manifest)? else { return Ok(None) };
    let VmManifest { vcpu_count, mem_mib, accelerator, nested, .. } = manifest;
    let disk_mib = manifest.disk_mib.unwrap_or_default();
    let text = format!(
        "image {}\nagent {}\nmayfly {}\nbackend {} {accelerator}\nvcpus {vcpu_count}\n\
         memory {mem_mib}\ndisk {disk_mib}\nnested {nested}\ncpu {}\nvmm {vmm}",
        image.id(),
        image.info().agent.digest,
        env!("CARGO_PKG_VERSION"),
        backend.kind(),
        cpu::model(),
    );
    Ok(Some(TemplateShape::new(manifest, image.info(), text)))
}

/// Why a start from a template failed.
#[derive(Debug)]
pub enum TemplateFailure {
    /// Booting the VM failed or was interrupted, so booting without a template is pointless.
    Boot(anyhow::Error),
    /// The template or its copy does not work. The VM may still boot.
    Template(anyhow::Error),
}

impl From<anyhow::Error> for TemplateFailure {
    fn from(error: anyhow::Error) -> TemplateFailure {
        if error.is::<SignalInterrupt>() {
            TemplateFailure::Boot(error)
        } else {
            TemplateFailure::Template(error)
        }
    }
}

/// Starts a VM from the template of its shape.
pub fn start(
    boot: &VmBoot,
    shape: &TemplateShape,
    image: &LockedImage,
    caller: &mut StartCaller<'_>,
) -> Result<BootedVm, TemplateFailure> {
    let template = find_or_make(boot, shape, image, caller)?;
    let files = template.files();
    boot.copy_disk(&files.disk)?;
    caller.timings.end("disk");
    Ok(boot.launch(MemorySource::Frozen(&files), Some(template.name()), caller)?)
}

/// Deletes what a failed start from a template left, and the template itself.
pub fn discard(boot: &VmBoot, shape: &TemplateShape, disk: &Path) -> Result<()> {
    atomic_file::remove_if_there(disk)?;
    // If it is in use, the commands that use it find the fault themselves.
    let _ = boot.manager.templates()?.remove(shape.name());
    Ok(())
}

fn find_or_make(
    boot: &VmBoot,
    shape: &TemplateShape,
    image: &LockedImage,
    caller: &mut StartCaller<'_>,
) -> Result<LockedTemplate, TemplateFailure> {
    let templates = boot.manager.templates()?;
    // Making it may take one deadline to boot, another to freeze, and a third to write much memory. A
    // maker that dies is noticed at once.
    let patience = 3 * boot.backend.boot_deadline();
    let mut wait = WaitLimit::within(patience).interruptible(caller.signals);
    let mut made = 0;
    loop {
        match templates.claim(shape)? {
            TemplateClaim::Ready(template) => {
                caller.timings.end("template");
                return Ok(template);
            }
            TemplateClaim::Wait => {
                wait.pause(RETRY_INTERVAL, "another command to make the template")?
            }
            // Damaged again before its first use: the disk cannot be trusted.
            TemplateClaim::Make(_) if made == MAX_ATTEMPTS => {
                let message = anyhow!("template {} does not stay as it is made", shape.name());
                return Err(TemplateFailure::Template(message));
            }
            TemplateClaim::Make(draft) => {
                let name = shape.name();
                made += 1;
                (caller.remark)(match draft.why() {
                    Some(why) => StartRemark::Warning(format!(
                        "template {name} is damaged ({why}) and will be rebuilt"
                    )),
                    None => StartRemark::Progress(format!(
                        "making template {name}, for this VM and later ones"
                    )),
                });
                make(boot, draft, image, caller)?;
                wait = WaitLimit::within(patience).interruptible(caller.signals);
            }
        }
    }
}

/// Boots a VM into the draft and freezes it there.
fn make(
    boot: &VmBoot,
    draft: TemplateDraft,
    image: &LockedImage,
    caller: &mut StartCaller<'_>,
) -> Result<(), TemplateFailure> {
    let mem_mib = boot.record.manifest.mem_mib;
    boot.with_disk_seed(image, |seed| draft.prepare(mem_mib, seed))?;
    let files = draft.files();
    let memory = MemorySource::ToFreeze(&files);
    let booted = boot.launch(memory, None, caller).map_err(TemplateFailure::Boot)?;
    let version = freeze(boot, memory, booted, caller.signals)?;
    caller.timings.end("freeze");
    draft.complete(version)?;
    // `reap` deletes what cannot be deleted now.
    let _ = templates::prune_superseded(boot.manager, &boot.record.manifest.profile);
    caller.timings.end("keep");
    Ok(())
}

/// Warms up a VM and freezes it. Its VMM is gone afterwards.
fn freeze(
    boot: &VmBoot,
    memory: MemorySource,
    mut booted: BootedVm,
    signals: &mut PendingSignals,
) -> Result<String> {
    let warmed = warm_up(&mut booted.session, signals);
    let (vmm, monitor) = booted.hang_up();
    let paths = boot.paths();
    let frozen = warmed.and_then(|()| {
        boot.wait(&vmm, signals).pause(IDLE_TIME, "the agent to be idle")?;
        let vm = boot.vm_of(&paths, memory);
        boot.backend.freeze(vm, &monitor, &mut boot.wait(&vmm, signals))
    });
    boot.end(&vmm)?;
    frozen
}

/// Runs a command in a guest, to nowhere.
pub fn warm_up(session: &mut AgentSession, signals: &mut PendingSignals) -> Result<()> {
    let exec = ExecRequest::of(ExecProgram::Shell(WireText::from(WARM_UP)));
    let nowhere = || OutputSink::Capture { limit: 0 };
    let io = ExecIo { stdin: None, stdout: nowhere(), stderr: nowhere(), signals };
    let watch = InterruptWatch::begin();
    // An image without a shell is frozen without it.
    session.exec(&exec, io)?;
    // The first signal was passed on to the shell.
    watch.wait(None, Some(Instant::now())).map(drop)
}
