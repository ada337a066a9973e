//! `image build` and `image rm`, with regard to the VMs that boot the images.

use anyhow::Result;

use super::templates;
use crate::backend::installed_agent;
use crate::image::{ImageInfo, ProgressSink};
use crate::lifecycle::manager::VmManager;
use crate::model::{ProfileName, Refusal, RefusalKind, VmManifest, VmRecord, listed};
use crate::settings::find_profile;

/// Builds the image of a profile if it is missing or out of date; with `force`, even if it is up to date.
/// Deletes the templates of an older image.
///
/// # Errors
/// `NotFound` for an unknown profile; `WrongState` if VMs need the image that `force` would replace;
/// the errors of the build.
pub fn build_image(
    manager: &VmManager,
    profile: &str,
    force: bool,
    progress: &mut dyn ProgressSink,
) -> Result<ImageInfo> {
    let profiles = manager.settings.profiles()?;
    let profile = find_profile(profiles, profile)?;
    if force {
        refuse_if_needed(manager, &profile.name, "rebuilding")?;
    }
    let (images, agent) = (manager.images()?, installed_agent()?);
    let image = if force {
        images.build(profile, &agent, progress)?
    } else {
        images.ensure(profile, &agent, progress)?
    };
    templates::prune_superseded(manager, &profile.name)?;
    Ok(image.info().clone())
}

/// Deletes the image of a profile and its templates. Returns whether there was an image.
///
/// # Errors
/// Unless `force`: `NotFound` if there is no image, `WrongState` if VMs need it.
pub fn remove_image(manager: &VmManager, profile: &ProfileName, force: bool) -> Result<bool> {
    let images = manager.images()?;
    let deleted = if force {
        images.remove(profile)?
    } else {
        let is_unneeded = || refuse_if_needed(manager, profile, "deleting").map(|()| true);
        images.remove_if(profile, is_unneeded)?
    };
    if !deleted && !force {
        let images = manager.images()?.list()?;
        let message = format!("profile {:?} has no image", profile.as_str());
        return Err(Refusal::new(RefusalKind::NotFound, message)
            .hint_at_nearest(
                profile.as_str(),
                images.iter().map(|image| image.profile.as_str()),
                "'mayfly image ls' lists all images",
            )
            .into());
    }
    templates::prune_superseded(manager, profile)?;
    Ok(deleted)
}

/// A VM's disk is a layer over the root file system it was created with, so the VM cannot start on
/// another. A running VM has its files open and is not affected.
pub(super) fn refuse_if_needed(
    manager: &VmManager,
    profile: &ProfileName,
    doing: &str,
) -> Result<()> {
    let users = users_of(manager, profile)?;
    if users.is_empty() {
        return Ok(());
    }
    let (profile, names) = (profile.as_str(), users.iter().map(VmManifest::display_name));
    let listed = listed(names.clone());
    let message = format!("{doing} the image of {profile:?} would strand its VMs: {listed}");
    let names = names.collect::<Vec<_>>().join(" ");
    Err(Refusal::new(RefusalKind::WrongState, message)
        .hint(format!("delete them first: mayfly rm {names}"))
        .into())
}

/// The VMs that were created from the image of a profile. Those of the pool need it only until they run.
pub(super) fn users_of(manager: &VmManager, profile: &ProfileName) -> Result<Vec<VmManifest>> {
    let contents = manager.registry.read()?;
    let is_user = |record: &&VmRecord| {
        let vm = &record.manifest;
        vm.profile == *profile && !vm.image.is_empty() && !vm.in_pool
    };
    Ok(contents.vms.values().filter(is_user).map(|record| record.manifest.clone()).collect())
}
