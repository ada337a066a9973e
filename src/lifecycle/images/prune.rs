//! `image prune`: deleting images that nothing needs.

use std::fs;

use anyhow::{Context, Result};

use super::templates;
use super::users::users_of;
use crate::host::directory;
use crate::image::ImageStore;
use crate::lifecycle::manager::VmManager;
use crate::lifecycle::removal::{RemovalReport, RemovedThing};
use crate::model::record::reason;
use crate::model::{ImageRecipe, ProfileName, ProfileSet, Refusal, RefusalKind};
use crate::pull::{BlobStore, StoredBlob};
use crate::sys::file_system::if_exists;

/// What a prune deleted, or would delete.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PruneReport {
    /// Images, their templates and others whose image is gone, and what killed builds left.
    pub removed: Vec<RemovalReport>,
    pub freed_bytes: u64,
}

/// Deletes the images that no VM here was created from and no profile needs in this form. With `all`,
/// also deletes those that can be built again when needed. Skips images that other commands are using.
/// With `dry_run`, nothing is changed.
pub fn prune_images(manager: &VmManager, all: bool, dry_run: bool) -> Result<PruneReport> {
    let mut pruned = PruneReport::default();
    if !manager.settings.directories.artifacts.exists() {
        return Ok(pruned);
    }
    let profiles = manager.settings.profiles()?;
    let images = manager.images()?;
    let mut gone = Vec::new();
    for name in images.names()? {
        if is_wanted(&images, profiles, &name, all) || !users_of(manager, &name)?.is_empty() {
            continue;
        }
        let freed = images.usage(&name)?.own_bytes;
        let is_unused = || Ok(users_of(manager, &name)?.is_empty());
        let is_gone = dry_run
            || match images.remove_if(&name, is_unused) {
                Err(error) if Refusal::is_of_kind(&error, RefusalKind::Busy) => false,
                removed => removed?,
            };
        if is_gone {
            pruned.freed_bytes += freed;
            gone.push(name);
        }
    }
    let templates = templates::prune_without_images(manager, &gone, dry_run)?;
    pruned.freed_bytes += templates.iter().map(|template| template.bytes).sum::<u64>();
    let left = images.sweep(true)?;
    pruned.freed_bytes += left.iter().map(|path| directory::usage(path).own_bytes).sum::<u64>();
    let swept = if dry_run { left } else { images.sweep(false)? };
    let blobs = prune_blobs(manager, &images, &gone, dry_run)?;
    pruned.freed_bytes += blobs.iter().map(|blob| blob.bytes).sum::<u64>();
    let report = |what, reason| RemovalReport::of(what, reason, dry_run);
    pruned.removed = gone
        .into_iter()
        .map(|name| report(RemovedThing::Image(name), reason::NOT_NEEDED))
        .chain(
            templates
                .into_iter()
                .map(|template| report(RemovedThing::Template(template.name), reason::IMAGE_GONE)),
        )
        .chain(swept.iter().map(|path| {
            report(RemovedThing::Leftover(path.display().to_string()), reason::ABANDONED)
        }))
        .chain(blobs.iter().map(|blob| {
            report(RemovedThing::Leftover(blob.path.display().to_string()), reason::NOT_NEEDED)
        }))
        .collect();
    Ok(pruned)
}

/// Deletes what was fetched from registries and is part of no image but those that are `gone`.
fn prune_blobs(
    manager: &VmManager,
    images: &ImageStore,
    gone: &[ProfileName],
    dry_run: bool,
) -> Result<Vec<StoredBlob>> {
    let stay = images.list()?.into_iter().filter(|info| !gone.contains(&info.profile));
    let needed = stay.filter_map(|info| info.pulled).flat_map(|pulled| pulled.blobs).collect();
    let mut unneeded = BlobStore::new(&manager.settings.directories.artifacts).unneeded(&needed)?;
    if !dry_run {
        for blob in &unneeded {
            if_exists(fs::remove_file(&blob.path))
                .with_context(|| format!("cannot delete {}", blob.path.display()))?;
        }
    }
    unneeded.sort_by(|one, other| one.digest.cmp(&other.digest));
    Ok(unneeded)
}

/// Whether a profile needs this image. One whose description cannot be read may have been imported and
/// could not be restored, so it is kept.
fn is_wanted(images: &ImageStore, profiles: &ProfileSet, name: &ProfileName, all: bool) -> bool {
    let Some(profile) = profiles.profiles.get(name) else { return false };
    // Its profile came with it.
    let is_imported = match profile.recipe {
        ImageRecipe::Imported(_) => true,
        ImageRecipe::Pulled(_) => !profile.names_image,
        ImageRecipe::Debian(_) => false,
    };
    match images.info(name) {
        Ok(Some(info)) => info.recipe == profile.recipe && (!all || is_imported),
        Ok(None) => is_imported,
        Err(_) => true,
    }
}
