//! `image build` and `image rm`, with regard to the VMs that boot the images.

use anyhow::Result;

use super::pull::{PullRequest, is_pulled, pull_image};
use super::templates;
use super::users::refuse_if_needed;
use crate::backend::installed_agent;
use crate::image::{ImageInfo, ProgressSink};
use crate::lifecycle::manager::VmManager;
use crate::model::{ProfileName, Refusal, RefusalKind};
use crate::settings::find_profile;

/// Builds or pulls the image of a profile if it is missing or out of date; with `force`, even if it is up to date.
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
    if let Some(recipe) = profile.recipe.pulled()
        && (force || !is_pulled(manager, profile))
    {
        let (reference, name) = (recipe.reference.clone(), Some(profile.name.clone()));
        let request = PullRequest { rebuild: force, ..PullRequest::new(reference, name) };
        return Ok(pull_image(manager, &request, progress)?.into_info());
    }
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
