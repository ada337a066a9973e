//! Starting from a template instead of booting: finding the one that fits, and making it where there is
//! none.
//!
//! Whoever needs a template that is not there boots a VM into files, freezes it, and goes on as the first
//! copy. That VM runs in the place of the one that is being started, with its lock, its sockets and its
//! record, so a crash leaves nothing that is not known from booting.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use nix::sys::signal::Signal;

use super::boot::{Boot, Up};
use super::caller::{Caller, Remark};
use crate::backend::{Backend, Memory};
use crate::guest::{ExecIo, Exit, Session, Sink};
use crate::host::signals::{self, Interrupted, Signals};
use crate::host::wait::Wait;
use crate::host::{cpu, sparse};
use crate::image::Image;
use crate::lifecycle::images::templates;
use crate::model::Manifest;
use crate::protocol::{Exec, Program, Text};
use crate::template::{Claim, Draft, Shape, Template};

/// What a guest does before it is frozen: what every command needs is then in its memory already, and
/// needs not be read from a disk by each copy. A login shell, because it needs the most, and programs
/// that it does not have built in.
const WARM_UP: &str = "/bin/true; exec /bin/sh -c :";

/// How long the agent gets to notice that nobody talks to it any more. It is sure after 100 ms.
const LULL: Duration = Duration::from_millis(200);

/// Between two tries at a template that somebody else is making.
const PAUSE: Duration = Duration::from_millis(5);

/// The shape of a VM; `None` if it can only boot.
pub fn shape_of(
    manifest: &Manifest,
    backend: &dyn Backend,
    image: &Image,
) -> Result<Option<Shape>> {
    let Some(vmm) = backend.shape(manifest)? else { return Ok(None) };
    let Manifest { vcpu_count, mem_mib, accelerator, nested, .. } = manifest;
    let text = format!(
        "image {}\nagent {}\nmayfly {}\nbackend {} {accelerator}\nvcpus {vcpu_count}\n\
         memory {mem_mib}\nnested {nested}\ncpu {}\nvmm {vmm}",
        image.id(),
        image.agent_digest(),
        env!("CARGO_PKG_VERSION"),
        backend.kind(),
        cpu::model(),
    );
    Ok(Some(Shape::new(manifest, image.info(), text)))
}

/// Why no VM came up from a template.
#[derive(Debug)]
pub enum Failed {
    /// It does not boot, so it would not without a template either; or nobody wants it any more.
    Boot(anyhow::Error),
    /// The template or its copy did not do. The VM may still boot.
    Template(anyhow::Error),
}

impl From<anyhow::Error> for Failed {
    fn from(error: anyhow::Error) -> Failed {
        if error.is::<Interrupted>() { Failed::Boot(error) } else { Failed::Template(error) }
    }
}

/// Starts a VM from the template of its shape.
pub fn start(
    boot: &Boot,
    shape: &Shape,
    image: &Image,
    caller: &mut Caller<'_>,
) -> Result<Up, Failed> {
    let template = find_or_make(boot, shape, image, caller)?;
    Ok(copy(boot, &template, caller)?)
}

/// After a start that failed: deletes what it has left, and the template, which did not do.
pub fn forget(boot: &Boot, shape: &Shape, disk: &Path) -> Result<()> {
    if disk.exists() {
        std::fs::remove_file(disk).context("cannot delete the VM's disk")?;
    }
    // Whoever else starts from it now will find out for themselves.
    let _ = boot.manager.templates()?.remove(&shape.name());
    Ok(())
}

fn copy(boot: &Boot, template: &Template, caller: &mut Caller<'_>) -> Result<Up> {
    let files = template.files();
    sparse::clone_file(&files.disk, &boot.paths().disk())?;
    caller.timings.end("disk");
    boot.launch(Memory::Frozen(&files), Some(template.name()), caller)
}

fn find_or_make(
    boot: &Boot,
    shape: &Shape,
    image: &Image,
    caller: &mut Caller<'_>,
) -> Result<Template, Failed> {
    let templates = boot.manager.templates()?;
    // Whoever makes it may take the one deadline to boot, another to freeze, and longer to write much
    // memory. A maker that dies is noticed at once.
    let patience = 3 * boot.backend.boot_deadline();
    let mut wait = Wait::within(patience).interruptible(caller.signals);
    loop {
        match templates.claim(shape)? {
            Claim::Ready(template) => {
                caller.timings.end("template");
                return Ok(template);
            }
            Claim::Wait => wait.pause(PAUSE, "another command to make the template")?,
            Claim::Make(draft) => {
                let name = shape.name();
                (caller.remark)(match draft.why() {
                    Some(why) => {
                        Remark::Odd(format!("template {name} is damaged ({why}) and is made anew"))
                    }
                    None => {
                        Remark::Slow(format!("making template {name}, for this VM and later ones"))
                    }
                });
                make(boot, draft, image, caller)?;
                wait = Wait::within(patience).interruptible(caller.signals);
            }
        }
    }
}

/// Boots a VM into the draft and freezes it there.
fn make(boot: &Boot, draft: Draft, image: &Image, caller: &mut Caller<'_>) -> Result<(), Failed> {
    draft.prepare(boot.record.manifest.mem_mib, &image.disk_seed())?;
    let files = draft.files();
    let memory = Memory::ToFreeze(&files);
    let up = boot.launch(memory, None, caller).map_err(Failed::Boot)?;
    let version = freeze(boot, memory, up, caller.signals)?;
    caller.timings.end("freeze");
    draft.complete(version)?;
    // What cannot be deleted now, `reap` deletes.
    let _ = templates::prune_superseded(boot.manager, &boot.record.manifest.profile);
    caller.timings.end("keep");
    Ok(())
}

/// Brings a VM to rest and freezes it; its VMM is gone afterwards.
fn freeze(boot: &Boot, memory: Memory, mut up: Up, signals: &mut Signals) -> Result<String> {
    let rested = warm_up(&mut up.session, signals);
    let (vmm, monitor) = up.hang_up();
    let frozen = rested.and_then(|()| {
        boot.wait(&vmm, signals).pause(LULL, "the agent to be idle")?;
        boot.freeze(memory, &vmm, &monitor, signals)
    });
    boot.end(&vmm)?;
    frozen
}

fn warm_up(session: &mut Session, signals: &mut Signals) -> Result<()> {
    let exec = Exec::of(Program::Shell(Text::from(WARM_UP)));
    let nowhere = || Sink::Capture { limit: 0 };
    let io = ExecIo { stdin: None, stdout: nowhere(), stderr: nowhere(), signals };
    match session.exec(&exec, io)?.exit {
        // A signal of the user's, which was passed on.
        Exit::Signalled(number) => match Signal::try_from(i32::from(number)) {
            Ok(signal) if signals::STOPPING.contains(&signal) => Err(Interrupted(signal).into()),
            _ => Ok(()),
        },
        // An image without a shell does without the warmth.
        _ => Ok(()),
    }
}
