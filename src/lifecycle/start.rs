//! Bringing a VM up: from the decision to the agent's answer.

use std::os::fd::AsFd;
use std::time::Instant;

use anyhow::{Context, Result};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;

use super::end;
use super::manager::{Manager, expired};
use super::remove::remove_settled;
use super::settle::acquire;
use super::timings::Timings;
use crate::backend::{self, Backend, Machine, Purpose};
use crate::host::process::PidFd;
use crate::host::signals::{Interrupted, Signals};
use crate::host::wait::Wait;
use crate::host::{clock, directory, gate, log, random};
use crate::image::Image;
use crate::model::record::reason;
use crate::model::{BootFiles, Instance, Kind, Manifest, Refusal, VmId, VmRecord};
use crate::protocol::Setup;

/// Lines of the console shown when a boot fails: enough for a kernel's last words.
const CONSOLE_LINES: usize = 20;

/// From created or stopped to started; returns when the agent answers.
///
/// Errors leave the VM stopped, with what went wrong on record. `signals` end a start that waits.
pub fn start(
    manager: &Manager,
    id: &VmId,
    signals: &mut Signals,
    timings: &mut Timings,
) -> Result<VmRecord> {
    // Before the VM's lock: images come first in the order of locks.
    let image = image_of(manager, id)?;
    let (record, lock) = acquire(manager, id)?;
    if record.has_expired(&clock::now()?) {
        remove_settled(manager, record, lock, reason::EXPIRED)?;
        return Err(expired(id).into());
    }
    let backend = manager.backend_of(&record.manifest)?;
    let boot = boot_files(&record.manifest, image.as_ref())?;
    manager.change(id, |record| record.begin_start())?;
    timings.end("prepare");

    let booted = boot_up(manager, &record, backend.as_ref(), boot.as_ref(), signals, timings);
    let started = booted.and_then(|()| {
        manager.change(id, |record| {
            record.finish_start()?;
            Ok(record.clone())
        })
    });
    started.or_else(|error| {
        // Also when only the last line of the record could not be written: a VM that the user was
        // told did not start must not run.
        undo(manager, id, &error).with_context(|| format!("while undoing: {error:#}"))?;
        Err(error)
    })
}

fn undo(manager: &Manager, id: &VmId, error: &anyhow::Error) -> Result<VmRecord> {
    let record = manager.registry.read()?.get(id)?.clone();
    end::bring_down(manager, &record, Some(format!("{error:#}")))
}

/// The image a VM boots, held against being replaced; `None` if it boots none, or if it is gone.
fn image_of(manager: &Manager, id: &VmId) -> Result<Option<Image>> {
    let contents = manager.registry.read()?;
    let manifest = &contents.get(id)?.manifest;
    match manifest.image.is_empty() {
        true => Ok(None),
        false => manager.images()?.find(&manifest.profile),
    }
}

/// The files a VM boots, checked against what it was created with.
fn boot_files(manifest: &Manifest, image: Option<&Image>) -> Result<Option<BootFiles>> {
    if manifest.image.is_empty() {
        return Ok(None);
    }
    let gone = |what: &str| {
        Refusal::new(Kind::Host, format!("the image of profile {:?} {what}", manifest.profile))
            .hint("delete this VM with 'mayfly rm' and create another")
    };
    let image = image.ok_or_else(|| gone("is gone"))?;
    if image.id() != manifest.image {
        return Err(gone("was rebuilt since this VM was created").into());
    }
    image.verify()?;
    Ok(Some(image.boot_files()))
}

/// Starts the VMM and waits for the agent. On an error no process is left.
fn boot_up(
    manager: &Manager,
    record: &VmRecord,
    backend: &dyn Backend,
    boot: Option<&BootFiles>,
    signals: &mut Signals,
    timings: &mut Timings,
) -> Result<()> {
    let (id, paths) = (record.id(), manager.paths(record.id()));
    // Sockets and claims of an earlier start mean nothing any more.
    directory::remove(&paths.run)?;
    directory::create_new_below(&manager.settings.directories.run, &paths.run)?;
    let launch = backend.launch(Machine { manifest: &record.manifest, paths: &paths, boot })?;

    let gated = gate::spawn(launch, &manager.mark(id))?;
    let instance = Instance { process: gated.process.clone() };
    // Before the release: a VMM that cannot be watched and ended must not come to be.
    let Some(vmm) = PidFd::open(&instance.process)? else {
        return Err(Refusal::new(Kind::Host, "the launcher ended at once").into());
    };
    manager.change(id, |record| record.launched(instance.clone()))?;
    let released = gated.release();
    timings.end("launch");

    let ready = match &released {
        Ok(_) => meet_agent(manager, record, backend, &vmm, signals, timings),
        Err(error) => Err(Refusal::new(Kind::Host, format!("{error:#}")).into()),
    }
    .map_err(|error| explain(manager, record, error));
    if ready.is_err() {
        end::kill(&vmm)?;
        end::clear(manager, &record.manifest)?;
    }
    drop(released);
    ready
}

/// Waits for the agent and tells it what it must know before it serves.
fn meet_agent(
    manager: &Manager,
    record: &VmRecord,
    backend: &dyn Backend,
    vmm: &PidFd,
    signals: &mut Signals,
    timings: &mut Timings,
) -> Result<()> {
    let deadline = Instant::now() + backend.boot_deadline();
    let mut wait = Wait::until(deadline).watching(vmm.as_fd()).interruptible(signals);
    let mut session = manager.open_session(record, backend, Purpose::Control, &mut wait)?;
    timings.end("boot");
    session.setup(&setup(record)?, &mut wait)?;
    backend::hang_up(session.is_clean(), session.into_channel());
    timings.end("setup");
    Ok(())
}

fn setup(record: &VmRecord) -> Result<Setup> {
    let remaining = record.expiry.remaining(&clock::now()?).max(0.0);
    Ok(Setup {
        vm_id: record.id().to_string(),
        hostname: record.manifest.hostname(),
        entropy: BASE64.encode(random::bytes::<64>()?),
        ttl_ms: Some((remaining * 1000.0) as u64),
        // Read last: it ages.
        unix_ns: clock::unix_time().as_nanos() as u64,
    })
}

/// Adds what the guest and the VMM said last to a failed boot's error.
fn explain(manager: &Manager, record: &VmRecord, error: anyhow::Error) -> anyhow::Error {
    // Whoever interrupted the boot knows why it did not finish.
    if error.is::<Interrupted>() {
        return error;
    }
    let paths = manager.paths(record.id());
    let mut said = String::new();
    for (who, path) in [("the VMM", paths.vmm_log()), ("the console", paths.console())] {
        let tail = log::tail(&path, CONSOLE_LINES);
        if !tail.is_empty() {
            said.push_str(&format!("\n{who} said last:\n{tail}"));
        }
    }
    let kind = error.downcast_ref::<Refusal>().map_or(Kind::Host, |refusal| refusal.kind);
    let hint = error.downcast_ref::<Refusal>().and_then(|refusal| refusal.hint.clone());
    Refusal {
        // A guest that does not come up is the host's matter for a script: it cannot do it.
        kind: if kind == Kind::Agent { Kind::Host } else { kind },
        message: format!("VM {} did not start: {error:#}{said}", record.id()),
        hint: hint.or_else(|| Some("'mayfly doctor' checks what this host can do".into())),
    }
    .into()
}
