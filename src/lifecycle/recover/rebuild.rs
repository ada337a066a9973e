//! Making a new registry from the VMs' manifests, when the old one is damaged or lost.

use std::collections::BTreeMap;

use anyhow::Result;

use super::processes;
use crate::host::{clock, directory};
use crate::lifecycle::manager::VmManager;
use crate::model::{
    BootId, ProcessId, VmExpiry, VmId, VmInstance, VmManifest, VmName, VmPhase, VmRecord,
};
use crate::registry::{RegistryContents, read_manifest};

/// Replaces a registry that cannot be read. Returns the ids it holds now; `None` if the registry is
/// in order, which is then left alone.
pub fn rebuild(manager: &VmManager) -> Result<Option<Vec<VmId>>> {
    let mut ids = Vec::new();
    let replaced = manager.registry.replace_damaged(|generation| {
        let mut contents = RegistryContents { generation, ..RegistryContents::empty() };
        let vms = manager.settings.directories.vms();
        let processes = processes::all(manager)?;
        for id in directory::names(&vms)?.iter().filter_map(|name| name.parse::<VmId>().ok()) {
            // A directory without a manifest belongs to a VM that nobody was told of; the sweep
            // takes it.
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

/// Leaves each name with the youngest VM that has it. Two can, where a command was killed while it gave one
/// of them another name; they are found by their ids all the same.
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

/// A record from what is left. The oldest of a VM's processes is its VMM: everything else of it was
/// started by that one.
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
    // The boot clock's share of the old record is lost; the wall clock's is in the manifest.
    let expires_at = manifest.created_at + manifest.ttl_seconds as f64;
    let remaining = expires_at - clock::unix_time().as_secs_f64();
    let expires_boottime = clock::boottime().map_or(0.0, |now| now.as_secs_f64()) + remaining;
    let expiry = VmExpiry { expires_at, expires_boottime, boot_id: boot.clone() };
    VmRecord { manifest, expiry, state }
}
