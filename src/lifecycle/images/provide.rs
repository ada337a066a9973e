//! Pulling the image of a new VM, if it is one of a registry, before anything else about the VM is decided.

use anyhow::Result;
use clap::ValueEnum;

use super::pull::{PullRequest, is_pulled, pull_image};
use crate::image::ProgressSink;
use crate::lifecycle::manager::VmManager;
use crate::model::{ImageReference, Profile, ProfileName, Refusal, RefusalKind};

/// When an image is pulled, as values of `--pull`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum PullPolicy {
    /// it must be here
    Never,
    /// the default
    #[default]
    Missing,
    /// also if there is another one
    #[value(alias = "always")]
    Newer,
}

/// What boots a new VM.
#[derive(Debug, Clone)]
pub enum ImageWish {
    Reference(ImageReference),
    Profile(String),
}

/// Pulls the image of a new VM if `policy` says so. Returns the name of its profile; `None` for a profile whose image is
/// not pulled. Profiles must then be read again.
///
/// # Errors
/// `NotFound` if the image is not here and must not be pulled, or there is no such profile; those of [`pull_image`].
pub fn provide_image(
    manager: &VmManager,
    wish: &ImageWish,
    policy: PullPolicy,
    progress: &mut dyn ProgressSink,
) -> Result<Option<ProfileName>> {
    let (reference, name, is_there) = match wish {
        ImageWish::Reference(reference) => {
            let found = find_pulled(manager, reference)?;
            let is_there = found.is_some();
            (reference, found.map(|profile| profile.name.clone()), is_there)
        }
        ImageWish::Profile(name) => {
            let profile = manager.settings.profile(name)?;
            let Some(pull) = profile.recipe.pulled() else { return Ok(None) };
            (&pull.reference, Some(profile.name.clone()), is_pulled(manager, profile))
        }
    };
    if !is_there && policy == PullPolicy::Never {
        let message =
            format!("no image of {reference} is here, and --pull never forbids to pull it");
        let name = name.map_or_else(String::new, |name| format!(" {name}"));
        return Err(Refusal::new(RefusalKind::NotFound, message)
            .hint(format!("pull it first: mayfly image pull {reference}{name}"))
            .into());
    }
    if let Some(name) = &name
        && is_there
        && policy != PullPolicy::Newer
    {
        return Ok(Some(name.clone()));
    }
    let request = PullRequest { tolerant: true, ..PullRequest::new(reference.clone(), name) };
    Ok(Some(pull_image(manager, &request, progress)?.into_info().profile))
}

/// The profile that was made when `reference` was pulled. Of several, the one whose name is made of the reference, or
/// the first.
fn find_pulled<'a>(
    manager: &'a VmManager,
    reference: &ImageReference,
) -> Result<Option<&'a Profile>> {
    let is_of_it = |profile: &&Profile| {
        let pull = profile.recipe.pulled();
        !profile.names_image && pull.is_some_and(|pull| pull.reference == *reference)
    };
    let all = || manager.settings.profiles().map(|set| set.profiles.values().filter(is_of_it));
    let usual = reference.profile_name().ok();
    let of_usual_name = all()?.find(|profile| Some(&profile.name) == usual.as_ref());
    Ok(of_usual_name.or(all()?.next()))
}
