//! `reap --rebuild`: making a new registry from the VMs' manifests if the old one is damaged or lost.

use std::collections::BTreeMap;

use anyhow::Result;

use super::processes;
use crate::host::{clock, directory};
use crate::lifecycle::manager::VmManager;
use crate::model::{
    BootId, ProcessId, VmExpiry, VmId, VmInstance, VmManifest, VmName, VmPhase, VmRecord,
};
use crate::registry::{RegistryContents, read_manifest};

/// Replaces a registry that cannot be read. Returns the ids in the new one; `None` if the registry is
/// in order and was left alone.
pub fn rebuild(manager: &VmManager) -> Result<Option<Vec<VmId>>> {
    let mut ids = Vec::new();
    let replaced = manager.registry.replace_damaged(|generation| {
        let mut contents = RegistryContents { generation, ..RegistryContents::empty() };
        let vms = manager.settings.directories.vms();
        let processes = processes::all(manager)?;
        for id in directory::names(&vms)?.iter().filter_map(|name| name.parse::<VmId>().ok()) {
            // A directory without a manifest belongs to a VM whose creation did not finish. The sweep
            // deletes it.
            let manifest = read_manifest(&manager.paths(&id).manifest())?;
            let Some(manifest) = manifest.filter(|manifest| manifest.vm_id == id) else { continue };
            let mine =
                processes.iter().filter(|(_, owner)| *owner == id).map(|(process, _)| process);
            let record = restore(manifest, mine, &clock::boot_id()?);
            contents.vms.insert(id, record);
        }
        make_names_unique(&mut contents);
        ids = contents.vms.keys().cloned().collect();
        Ok(contents)
    })?;
    Ok(replaced.then_some(ids))
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

/// A record from the manifest and the processes. The oldest of a VM's processes is its VMM, because the
/// VMM started all others.
fn restore<'a>(
    manifest: VmManifest,
    processes: impl Iterator<Item = &'a ProcessId>,
    boot: &BootId,
) -> VmRecord {
    let state = match processes.min_by_key(|process| process.start_ticks) {
        Some(process) => {
            VmPhase::Started { instance: VmInstance { process: process.clone(), template: None } }
        }
        None => VmPhase::Stopped { last_error: Some("the registry was rebuilt".into()) },
    };
    // The expiry on the boot clock is lost; the manifest has the one on the wall clock.
    let expires_at = manifest.created_at + manifest.ttl_seconds as f64;
    let remaining = expires_at - clock::unix_time().as_secs_f64();
    let expires_boottime = clock::boottime().map_or(0.0, |now| now.as_secs_f64()) + remaining;
    let expiry = VmExpiry { expires_at, expires_boottime, boot_id: boot.clone() };
    VmRecord { manifest, expiry, state, command: None }
}
