//! Sweeping away what no record knows: directories, sockets, lock files, processes.

use std::collections::BTreeSet;

use anyhow::Result;

use super::processes;
use crate::backend::all_traces;
use crate::host::directory;
use crate::lifecycle::manager::{VmManager, liveness_of};
use crate::model::{BootId, ProcessLiveness, VmId, VmRecord};
use crate::registry::sweep_manifest;

/// Deletes what belongs to VMs that are not in the registry. Returns what was found, for people.
///
/// A VM is looked at under its lock, and looked up in the registry after that: `create` takes the
/// lock first and `rm` keeps it to the end, so what has no record then has no future.
pub fn sweep(manager: &VmManager, dry_run: bool) -> Result<Vec<String>> {
    let directories = &manager.settings.directories;
    let mut swept = Vec::new();
    // A look without the locks keeps the crowd of healthy VMs cheap. The suspects come first: a VM
    // that is created after this look is none of them.
    let suspects = suspects(manager)?;
    let known = manager.registry.read()?;
    for id in suspects.into_iter().filter(|id| !known.vms.contains_key(id)) {
        if dry_run {
            swept.extend(leftovers(manager, &id)?);
            continue;
        }
        let Some(lock) = manager.registry.try_lock_vm(&id)? else { continue };
        if manager.registry.read()?.vms.contains_key(&id) {
            continue;
        }
        swept.extend(leftovers(manager, &id)?);
        processes::kill_all(manager, &id)?;
        let paths = manager.paths(&id);
        all_traces().try_for_each(|traces| traces.clear(&id, &paths))?;
        directory::remove(&paths.run)?;
        directory::remove(&paths.dir)?;
        lock.remove()?;
    }
    swept.extend(sweep_manifests(manager, dry_run)?);
    swept.extend(manager.registry.sweep(dry_run)?.iter().map(|path| path.display().to_string()));
    if directories.artifacts.exists() {
        let images = manager.images()?;
        let builds = if dry_run { images.leftovers()? } else { images.sweep()? };
        swept.extend(builds.iter().map(|path| path.display().to_string()));
    }
    if let Some(templates) = manager.templates_if_any()? {
        swept.extend(templates.sweep(dry_run)?.iter().map(|path| path.display().to_string()));
    }
    if !dry_run {
        directory::remove_if_empty(&directories.run);
    }
    Ok(swept)
}

/// Deletes what killed commands have left of VMs' manifests.
fn sweep_manifests(manager: &VmManager, dry_run: bool) -> Result<Vec<String>> {
    let mut swept = Vec::new();
    for id in manager.registry.read()?.vms.keys() {
        let manifest = manager.paths(id).manifest();
        // A look without the lock, which is enough for nearly all.
        let mut unfinished = sweep_manifest(&manifest, true)?;
        if unfinished.is_some() && !dry_run {
            let Some(_lock) = manager.registry.try_lock_vm(id)? else { continue };
            unfinished = sweep_manifest(&manifest, false)?;
        }
        swept.extend(unfinished.map(|path| path.display().to_string()));
    }
    Ok(swept)
}

/// Every id that something is left of.
fn suspects(manager: &VmManager) -> Result<BTreeSet<VmId>> {
    let directories = &manager.settings.directories;
    let mut ids: BTreeSet<VmId> = manager.registry.locked_ids()?.into_iter().collect();
    for directory in [directories.vms(), directories.run.clone()] {
        ids.extend(directory::names(&directory)?.iter().filter_map(|name| name.parse().ok()));
    }
    ids.extend(marked_ids(manager)?);
    Ok(ids)
}

/// The ids of VMs that any process belongs to, on record or not.
pub fn marked_ids(manager: &VmManager) -> Result<BTreeSet<VmId>> {
    Ok(processes::all(manager)?.into_iter().map(|(_, id)| id).collect())
}

fn leftovers(manager: &VmManager, id: &VmId) -> Result<Vec<String>> {
    let paths = manager.paths(id);
    let mut found: Vec<String> = processes::of(manager, id)?
        .iter()
        .map(|process| format!("process {}", process.pid))
        .collect();
    let mut places: Vec<_> = all_traces().flat_map(|traces| traces.places(id)).collect();
    places
        .extend([paths.dir, paths.run].into_iter().filter(|path| path.symlink_metadata().is_ok()));
    found.extend(places.iter().map(|path| path.display().to_string()));
    Ok(found)
}

/// Kills processes of a VM that its record does not account for: those of an earlier start, or all
/// of them when it is not running. The VM's lock is held, and the record is true.
pub fn kill_strays(manager: &VmManager, record: &VmRecord, boot: &BootId) -> Result<()> {
    if liveness_of(record, boot)? == Some(ProcessLiveness::Alive) {
        return Ok(());
    }
    processes::kill_all(manager, record.id())
}
