//! Deleting what belongs to no VM in the registry: directories, sockets, lock files, processes.

use std::collections::BTreeSet;
use std::path::PathBuf;

use anyhow::Result;

use super::processes;
use crate::backend::all_traces;
use crate::host::{atomic_file, directory, transient_lock};
use crate::lifecycle::manager::VmManager;
use crate::lifecycle::{pool, slot};
use crate::model::layout::LOCKS;
use crate::model::{Refusal, RefusalKind, VmId};
use crate::registry::read_vm_files;

/// Deletes what belongs to VMs that are not in the registry. Adds what was found to `swept`, for display.
///
/// A VM with a manifest that cannot be read may have been lost with a registry, so it is kept.
///
/// Each VM is locked first and then looked up in the registry. `create` takes the lock before it adds
/// the record, and `rm` holds it until the end, so a locked VM without a record will never have one.
///
/// # Errors
/// The first VM that was kept, after everything else was swept.
pub fn sweep(manager: &VmManager, dry_run: bool, swept: &mut Vec<String>) -> Result<()> {
    let directories = &manager.settings.directories;
    let mut kept = Ok(());
    // Looking without locks first keeps the cost for many healthy VMs low. The candidates are listed
    // before the registry is read, so that a VM created in between is not among them.
    let suspects = suspects(manager)?;
    let known = manager.registry.read()?;
    for id in suspects.into_iter().filter(|id| !known.vms.contains_key(id)) {
        if let Err(error) = read_vm_files(&manager.paths(&id), &id) {
            kept = kept.and(Err(unknown(manager, &id, &error).into()));
            continue;
        }
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
    let mut files = sweep_unfinished(manager, dry_run)?;
    files.extend(manager.registry.sweep(dry_run)?);
    for suffix in [slot::SUFFIX, pool::SUFFIX] {
        files.extend(transient_lock::sweep(&directories.state.join(LOCKS), suffix, dry_run)?);
    }
    if directories.artifacts.exists() {
        files.extend(manager.images()?.sweep(dry_run)?);
    }
    if let Some(templates) = manager.templates_if_any()? {
        files.extend(templates.sweep(dry_run)?);
    }
    swept.extend(files.iter().map(|path| path.display().to_string()));
    if !dry_run {
        directory::remove_if_empty(&directories.run);
    }
    kept
}

/// The error for a VM that is neither in the registry nor certain to be of no use.
fn unknown(manager: &VmManager, id: &VmId, why: &anyhow::Error) -> Refusal {
    let message = format!("VM {id} is not in the registry and was left as it is: {why:#}");
    let manifest = manager.paths(id).manifest();
    Refusal::new(RefusalKind::Failure, message).hint(format!(
        "repair it and run 'mayfly reap --rebuild'; or if you do not need the VM, delete {} and run 'mayfly reap'",
        manifest.display()
    ))
}

/// Deletes half-written manifests and instances of killed commands.
fn sweep_unfinished(manager: &VmManager, dry_run: bool) -> Result<Vec<PathBuf>> {
    let mut swept = Vec::new();
    for id in manager.registry.read()?.vms.keys() {
        let paths = manager.paths(id);
        for file in [paths.manifest(), paths.instance()] {
            // Looked at without the lock first, which is enough for nearly all VMs.
            let mut unfinished = atomic_file::sweep(&file, true)?;
            if unfinished.is_some() && !dry_run {
                let Some(_lock) = manager.registry.try_lock_vm(id)? else { continue };
                unfinished = atomic_file::sweep(&file, false)?;
            }
            swept.extend(unfinished);
        }
    }
    Ok(swept)
}

/// Every id of which anything is left.
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
    let own = [paths.dir, paths.run].into_iter().filter(|path| path.symlink_metadata().is_ok());
    let paths = all_traces().flat_map(|traces| traces.outside_paths(id)).chain(own);
    let processes = processes::of(manager, id)?;
    let processes = processes.iter().map(|process| format!("process {}", process.pid));
    Ok(processes.chain(paths.map(|path| path.display().to_string())).collect())
}
