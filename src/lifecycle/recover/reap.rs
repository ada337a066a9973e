//! `reap`: deleting what has expired and what crashes left.

use std::collections::BTreeSet;

use anyhow::Result;

use super::settle::{SettledVm, settle};
use super::{processes, sweep};
use crate::host::{clock, log, process};
use crate::lifecycle::images::templates;
use crate::lifecycle::liveness::{is_elsewhere, liveness_of};
use crate::lifecycle::manager::VmManager;
use crate::lifecycle::removal::{RemovalReport, RemovedThing};
use crate::lifecycle::remove::remove_settled;
use crate::model::reconcile::{RecordRepair, repair};
use crate::model::record::reason;
use crate::model::{ClockReading, ProcessLiveness, VmId, VmPhase, VmRecord};
use crate::sys::random;

/// How many VMs' logs a `create` trims, beginning with any. Each takes some microseconds, and mayfly is made for a
/// thousand VMs; the next `create` or `reap` trims others.
const TRIMMED: usize = 32;

/// Deletes expired VMs and useless templates, finishes abandoned operations and sweeps leftovers. VMs
/// that other commands are using are skipped, and so are VMs that are elsewhere. With `dry_run`, nothing
/// is changed. What was or would be deleted is added to `reaped`.
///
/// # Errors
/// The first error, after everything else was done.
pub fn reap(manager: &VmManager, dry_run: bool, reaped: &mut Vec<RemovalReport>) -> Result<()> {
    let now = clock::now()?;
    let mut failed = Ok(());
    let with_processes = sweep::marked_ids(manager)?;
    for record in manager.registry.read()?.vms.values() {
        if dry_run {
            if let Some(reason) = would_delete(manager, record, &now)? {
                let what = RemovedThing::Vm(record.id().clone());
                reaped.push(RemovalReport::of(what, &reason, true));
            }
            continue;
        }
        if is_elsewhere(record, &now)? {
            continue;
        }
        trim_logs(manager, record.id());
        if !may_need_repair(record, &with_processes, &now)? {
            continue;
        }
        match reap_one(manager, record.id(), &now) {
            Ok(removed) => reaped.extend(removed),
            Err(error) => failed = failed.and(Err(error)),
        }
    }
    match templates::prune(manager, dry_run) {
        Ok(removed) => reaped.extend(removed),
        Err(error) => failed = failed.and(Err(error)),
    }
    let mut swept = Vec::new();
    failed = failed.and(sweep::sweep(manager, dry_run, &mut swept));
    reaped.extend(
        swept.into_iter().map(|name| {
            RemovalReport::of(RemovedThing::Leftover(name), reason::ABANDONED, dry_run)
        }),
    );
    failed
}

/// The part of a reap that `create` does first: trims the logs of a few VMs, and deletes VMs that take up a place but
/// will not be used any more, because they have expired or their creation or deletion was abandoned.
pub fn reap_expired(manager: &VmManager) -> Result<()> {
    let now = clock::now()?;
    let contents = manager.registry.read()?;
    let count = contents.vms.len().max(1);
    let first = u32::from_ne_bytes(random::bytes()?) as usize % count;
    for (place, record) in contents.vms.values().enumerate() {
        if is_elsewhere(record, &now)? {
            continue;
        }
        if (place + count - first) % count < TRIMMED {
            trim_logs(manager, record.id());
        }
        let abandoned = matches!(record.state, VmPhase::Creating | VmPhase::Removing { .. });
        if abandoned || removal_reason(record, &now)?.is_some() {
            // A VM that cannot be deleted only takes up its place; `reap` reports the error.
            let _ = reap_one(manager, record.id(), &now);
        }
    }
    Ok(())
}

/// Why a VM that is not elsewhere must be deleted, if it must.
fn removal_reason(record: &VmRecord, now: &ClockReading) -> Result<Option<&'static str>> {
    use ProcessLiveness::{Alive, Elsewhere};
    if record.has_expired(now) {
        return Ok(Some(reason::EXPIRED));
    }
    let Some(owner) = &record.manifest.owner else { return Ok(None) };
    let has_owner = matches!(process::liveness(owner, &now.boot_id)?, Alive | Elsewhere);
    Ok((!has_owner).then_some(reason::ABANDONED))
}

/// Whether a VM may need anything done, as far as can be told without its lock. For a healthy VM, a
/// reap does no more than this.
fn may_need_repair(
    record: &VmRecord,
    with_processes: &BTreeSet<VmId>,
    now: &ClockReading,
) -> Result<bool> {
    let process = liveness_of(record, now)?;
    let strays = process != Some(ProcessLiveness::Alive) && with_processes.contains(record.id());
    let repair = repair(&record.state, process);
    Ok(strays || repair != RecordRepair::Keep || removal_reason(record, now)?.is_some())
}

/// Why [`reap_one`] would delete a VM, if it would and no other command is using it.
fn would_delete(
    manager: &VmManager,
    record: &VmRecord,
    now: &ClockReading,
) -> Result<Option<String>> {
    if is_elsewhere(record, now)? || manager.registry.is_vm_locked(record.id())? {
        return Ok(None);
    }
    let unfinished = match (repair(&record.state, liveness_of(record, now)?), &record.state) {
        (RecordRepair::Remove, VmPhase::Removing { reason, .. }) => Some(reason.clone()),
        (RecordRepair::RollBack | RecordRepair::Remove, _) => Some(reason::ABANDONED.to_owned()),
        _ => None,
    };
    Ok(unfinished.or(removal_reason(record, now)?.map(str::to_owned)))
}

/// A guest may write to its console and be denied things as long as it runs, so the logs are trimmed.
fn trim_logs(manager: &VmManager, id: &VmId) {
    let paths = manager.paths(id);
    for path in [paths.console(), paths.vmm_log(), paths.network_log()] {
        log::trim(&path);
    }
}

/// Settles one VM and deletes it if it must be deleted. Returns the deletion if it is gone.
fn reap_one(manager: &VmManager, id: &VmId, now: &ClockReading) -> Result<Option<RemovalReport>> {
    let Some(lock) = manager.registry.try_lock_vm(id)? else { return Ok(None) };
    match settle(manager, id, lock)? {
        SettledVm::Unknown | SettledVm::Elsewhere(_) => Ok(None),
        SettledVm::Gone(removed) => Ok(Some(removed)),
        SettledVm::Present(record, lock) => match removal_reason(&record, now)? {
            Some(reason) => remove_settled(manager, *record, lock, reason).map(Some),
            None => {
                if liveness_of(&record, now)? != Some(ProcessLiveness::Alive) {
                    // Processes of an earlier start, which the record does not account for.
                    processes::kill_all(manager, id)?;
                }
                Ok(None)
            }
        },
    }
}
