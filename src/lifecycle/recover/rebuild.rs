//! `reap --rebuild`: making a new registry from the VMs' manifests if the old one is damaged or lost.

use std::collections::BTreeMap;

use anyhow::Result;

use super::processes;
use crate::host::{clock, directory, process};
use crate::lifecycle::manager::VmManager;
use crate::model::{
    BootId, NetworkReport, ProcessLiveness, VmExpiry, VmId, VmInstance, VmManifest, VmName,
    VmPhase, VmRecord,
};
use crate::registry::{RegistryChange, RegistryContents, read_vm_files};

/// What [`rebuild`] did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RebuildOutcome {
    /// The registry could not be read, and was replaced by one with this number of VMs.
    Replaced(usize),
    /// The registry is in order. It lacked this number of VMs, which were added.
    Added(usize),
}

/// Replaces a registry that cannot be read, or adds the VMs that it lacks because their manifests could not
/// be read when it was rebuilt. VMs whose manifest cannot be read now are left out; [`super::reap()`] reports
/// them.
pub fn rebuild(manager: &VmManager) -> Result<RebuildOutcome> {
    let mut count = 0;
    let replaced = manager.registry.replace_damaged(|generation| {
        let mut contents = RegistryContents { generation, ..RegistryContents::empty() };
        count = add_missing(manager, &mut contents)?;
        Ok(contents)
    })?;
    if replaced {
        return Ok(RebuildOutcome::Replaced(count));
    }
    manager.registry.update(|contents| {
        let count = add_missing(manager, contents)?;
        let change = if count > 0 { RegistryChange::Made } else { RegistryChange::Nothing };
        Ok((RebuildOutcome::Added(count), change))
    })
}

/// Adds the VMs that have a manifest and no record, and returns how many.
fn add_missing(manager: &VmManager, contents: &mut RegistryContents) -> Result<usize> {
    let (processes, boot) = (processes::all(manager)?, clock::boot_id()?);
    let names = directory::names(&manager.settings.directories.vms())?;
    let before = contents.vms.len();
    for id in names.iter().filter_map(|name| name.parse::<VmId>().ok()) {
        if contents.vms.contains_key(&id) {
            continue;
        }
        // The sweep that follows deletes a directory without a manifest.
        let Ok(Some((manifest, launched))) = read_vm_files(&manager.paths(&id), &id) else {
            continue;
        };
        let marked = processes.iter().filter(|(_, owner)| *owner == id).map(|(process, _)| process);
        let instance = match launched {
            Some(instance) => is_up(&instance, &boot)?.then_some(instance),
            // The VMM was started by an older mayfly, if there is one. It is the oldest of the VM's
            // processes, because it started all others.
            None => marked
                .min_by_key(|process| process.start_ticks)
                .map(|process| VmInstance::new(process.clone())),
        };
        contents.vms.insert(id, restore(manifest, instance, &boot));
    }
    let added = contents.vms.len() - before;
    if added > 0 {
        make_names_unique(contents);
    }
    Ok(added)
}

/// Leaves each name with the youngest VM that has it. Two VMs have the same name if a command was
/// killed while it renamed one of them. Both can still be found by their ids.
fn make_names_unique(contents: &mut RegistryContents) {
    let mut holders: BTreeMap<VmName, VmId> = BTreeMap::new();
    let mut youngest_first: Vec<&mut VmRecord> = contents.vms.values_mut().collect();
    youngest_first.sort_by(|a, b| b.manifest.created_at.total_cmp(&a.manifest.created_at));
    for record in youngest_first {
        let id = record.id().clone();
        let Some(name) = &record.manifest.name else { continue };
        if *holders.entry(name.clone()).or_insert_with(|| id.clone()) != id {
            record.manifest.name = None;
        }
    }
}

/// Whether a VMM runs, or may run elsewhere.
fn is_up(instance: &VmInstance, boot: &BootId) -> Result<bool> {
    use ProcessLiveness::{Alive, Elsewhere};
    Ok(matches!(process::liveness(&instance.process, boot)?, Alive | Elsewhere))
}

/// A record from the manifest and the VMM that runs.
fn restore(manifest: VmManifest, instance: Option<VmInstance>, boot: &BootId) -> VmRecord {
    let state = match instance {
        Some(instance) => VmPhase::Started { instance },
        None => VmPhase::Stopped { last_error: Some("the registry was rebuilt".into()) },
    };
    // The expiry on the boot clock is lost; the manifest has the one on the wall clock.
    let expires_at = manifest.created_at + manifest.ttl_seconds as f64;
    let remaining = expires_at - clock::unix_time().as_secs_f64();
    let expires_boottime = clock::boottime().map_or(0.0, |now| now.as_secs_f64()) + remaining;
    let expiry = VmExpiry { expires_at, expires_boottime, boot_id: boot.clone() };
    let network = NetworkReport::default();
    VmRecord { manifest, expiry, state, command: None, waits: None, network }
}
