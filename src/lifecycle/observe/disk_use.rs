//! `df`: what mayfly takes on the disk, and what could be deleted.

use std::collections::HashSet;
use std::path::PathBuf;

use anyhow::Result;

use crate::host::directory::FilesOnce;
use crate::lifecycle::images::{list_templates, prune_images};
use crate::lifecycle::manager::VmManager;
use crate::lifecycle::recover::reap;
use crate::lifecycle::removal::{RemovalReport, RemovedThing};
use crate::model::ProfileName;
use crate::model::layout::TEMPLATES;
use crate::pull::BlobStore;

/// A kind of things.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DiskKind {
    Images,
    Templates,
    /// What was fetched from registries.
    Blobs,
    Vms,
    /// What crashes left.
    Leftovers,
    /// The registry, its reserve, locks, digests: what belongs to no VM, image or template.
    Other,
}

/// What a thing takes on the disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DiskItem {
    pub what: RemovedThing,
    /// For a VM, its name if it has one.
    pub shown: String,
    pub bytes: u64,
    /// Whether the kind's command would delete it.
    pub is_reclaimable: bool,
}

/// What the things of a kind take on the disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DiskGroup {
    pub kind: DiskKind,
    pub bytes: u64,
    pub items: Vec<DiskItem>,
}

/// Measures everything in the state and artifacts directories, and changes nothing. Files with several names
/// count once, for the first thing that has them.
pub fn disk_use(manager: &VmManager) -> Result<Vec<DiskGroup>> {
    let directories = &manager.settings.directories;
    let mut reaped = Vec::new();
    // What cannot be deleted is no reason not to measure the rest.
    let _ = reap(manager, true, &mut reaped);
    let pruned = prune_images(manager, true, true)?.removed;
    let named = |reports: &[RemovalReport]| -> HashSet<String> {
        reports.iter().map(|report| report.what.name().to_owned()).collect()
    };
    let (reaped_names, pruned_names) = (named(&reaped), named(&pruned));
    let mut files = FilesOnce::default();
    let mut measure = |(what, path, is_reclaimable): (RemovedThing, PathBuf, bool)| {
        let shown = what.name().to_owned();
        DiskItem { shown, what, bytes: files.measure(&path), is_reclaimable }
    };
    let mut groups = Vec::new();
    let mut add = |kind, items: Vec<DiskItem>| {
        let bytes = items.iter().map(|item| item.bytes).sum();
        groups.push(DiskGroup { kind, bytes, items });
    };

    let mut images = Vec::new();
    if directories.artifacts.exists() {
        images = manager.images()?.names()?;
    }
    let image = |profile: ProfileName| {
        let path = directories.artifacts.join(profile.as_str());
        let is_reclaimable = pruned_names.contains(profile.as_str());
        (RemovedThing::Image(profile), path, is_reclaimable)
    };
    let templates = manager.template_base().join(TEMPLATES);
    // Every template can be made again.
    let template = |name: String| {
        let path = templates.join(&name);
        (RemovedThing::Template(name), path, true)
    };
    add(DiskKind::Images, images.into_iter().map(image).map(&mut measure).collect());
    let listed = list_templates(manager)?.into_iter().map(|listed| template(listed.name));
    add(DiskKind::Templates, listed.map(&mut measure).collect());
    let blobs = BlobStore::new(&directories.artifacts).list()?.into_iter().map(|blob| {
        let name = blob.path.display().to_string();
        let is_reclaimable = pruned_names.contains(&name);
        (RemovedThing::Leftover(name), blob.path, is_reclaimable)
    });
    add(DiskKind::Blobs, blobs.map(&mut measure).collect());
    let mut vms = Vec::new();
    for record in manager.registry.read()?.vms.values() {
        let id = record.id();
        let is_reclaimable = reaped_names.contains(id.as_str());
        let item = measure((RemovedThing::Vm(id.clone()), manager.paths(id).dir, is_reclaimable));
        vms.push(DiskItem { shown: record.manifest.display_name().to_owned(), ..item });
    }
    add(DiskKind::Vms, vms);
    let leftovers =
        reaped.into_iter().filter(|report| matches!(report.what, RemovedThing::Leftover(_)));
    let leftovers = leftovers.map(|report| {
        let path = report.what.name().into();
        (report.what, path, true)
    });
    add(DiskKind::Leftovers, leftovers.map(&mut measure).collect());
    let roots = [&directories.state, &directories.artifacts].into_iter();
    let others = roots.map(|root| {
        let what = RemovedThing::Leftover(root.display().to_string());
        measure((what, root.clone(), false))
    });
    add(DiskKind::Other, others.collect());
    Ok(groups)
}
