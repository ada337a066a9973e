//! `image pull`: pulling an image from a registry, and making a profile for it unless a file has one.

use std::cell::Cell;

use anyhow::{Context, Result};

use super::import::check_defaults;
use super::templates;
use super::users::refuse_if_needed;
use crate::backend::installed_agent;
use crate::host::atomic_file;
use crate::host::tool::ToolInterrupted;
use crate::image::{ImageInfo, ImageParts, ImageStore, LockedImage, ProgressSink, PulledContent};
use crate::import::{self, ImageImport, NamedSource, UnpackBounds};
use crate::lifecycle::manager::VmManager;
use crate::model::profile::{IMPORTED_PROFILE, KERNEL_OF};
use crate::model::{
    ImageRecipe, ImageReference, Profile, ProfileName, PullRecipe, Refusal, RefusalKind,
    RootfsFormat,
};
use crate::pull::{self, BlobStore, ResolvedImage};
use crate::settings::{self, ImportedDefaults, find_profile};

/// What to pull, and as which profile.
#[derive(Debug, Clone)]
pub struct PullRequest {
    pub reference: ImageReference,
    /// The name of the profile; `None` for one made of the reference.
    pub name: Option<ProfileName>,
    /// The defaults of its VMs. Those that are not given are kept from an earlier pull.
    pub defaults: ImportedDefaults,
    /// The size of each VM's own disk in MiB; `None` for that of the profile with the kernel.
    pub disk_mib: Option<u32>,
    /// The profile whose image has the kernel to boot; `None` for the usual one.
    pub kernel_of: Option<String>,
    pub bounds: UnpackBounds,
    /// Replace the image even if VMs need it.
    pub force: bool,
    /// Make the image again even if it is current.
    pub rebuild: bool,
    /// If the registry cannot be asked, an image that is there will do.
    pub tolerant: bool,
}

/// The image, and what was done.
#[derive(Debug, Clone, PartialEq)]
pub enum PullOutcome {
    Pulled(ImageInfo),
    /// It was there, and is what the reference means now.
    Current(ImageInfo),
    /// It was there, and the registry could not be asked.
    Unchecked(ImageInfo),
}

impl PullOutcome {
    pub fn into_info(self) -> ImageInfo {
        match self {
            PullOutcome::Pulled(info)
            | PullOutcome::Current(info)
            | PullOutcome::Unchecked(info) => info,
        }
    }
}

impl PullRequest {
    /// A plain pull.
    pub fn new(reference: ImageReference, name: Option<ProfileName>) -> PullRequest {
        PullRequest {
            reference,
            name,
            defaults: ImportedDefaults::default(),
            disk_mib: None,
            kernel_of: None,
            bounds: UnpackBounds::default(),
            force: false,
            rebuild: false,
            tolerant: false,
        }
    }

    /// Whether the user asks for anything that a profile says.
    fn has_wishes(&self) -> bool {
        self.defaults != ImportedDefaults::default()
            || self.disk_mib.is_some()
            || self.kernel_of.is_some()
    }
}

/// The profile that an image is pulled for.
struct PullTarget {
    name: ProfileName,
    recipe: PullRecipe,
    defaults: ImportedDefaults,
    /// Whether the defaults are those of the image that is there.
    is_unchanged: bool,
}

/// Whether the image of a profile is here, and is what the profile names.
pub(super) fn is_pulled(manager: &VmManager, profile: &Profile) -> bool {
    let there = || manager.images().ok()?.info(&profile.name).ok()?;
    there().is_some_and(|info| info.recipe == profile.recipe)
}

/// Pulls an image, unless the one that is there is what the reference means now. Builds the image with the kernel if it is
/// missing.
///
/// # Errors
/// `NameTaken` if another profile has the name; `WrongState` if VMs need the image to be replaced, unless `force`;
/// `Usage` for defaults outside the limits; `NotFound` or `Host` if the registry does not give the image; the errors of an
/// import.
pub fn pull_image(
    manager: &VmManager,
    request: &PullRequest,
    progress: &mut dyn ProgressSink,
) -> Result<PullOutcome> {
    let (images, agent) = (manager.images()?, installed_agent()?);
    let target = target(manager, request)?;
    check_defaults(&manager.settings, &target.defaults, target.recipe.disk_mib)?;
    find_profile(manager.settings.profiles()?, &target.recipe.kernel_of)?;
    let store = BlobStore::new(&manager.settings.directories.artifacts);
    let wanted = ImageRecipe::Pulled(target.recipe.clone());
    let there = images.info(&target.name).ok().flatten();
    if matches!(&there, Some(info) if matches!(info.recipe, ImageRecipe::Imported(_))) {
        let name = target.name.as_str();
        let message = format!("the image of {name:?} was imported, and a pull would replace it");
        return Err(Refusal::new(RefusalKind::NameTaken, message)
            .hint(format!("choose another name, or delete it: mayfly image rm {name}"))
            .into());
    }
    let there = there.filter(|info| info.recipe == wanted);
    let resolved = match (pull::resolve(&request.reference, &store, progress), &there) {
        (Err(error), Some(info)) if request.tolerant && !error.is::<ToolInterrupted>() => {
            progress.note(&format!("{error:#}; the image that is here is used"));
            return Ok(PullOutcome::Unchecked(info.clone()));
        }
        (resolved, _) => resolved?,
    };
    let digest = resolved.digest.to_string();
    let is_current = |info: &ImageInfo| {
        !request.rebuild
            && target.is_unchanged
            && info.recipe == wanted
            && info.pulled.as_ref().is_some_and(|pulled| pulled.digest == digest)
    };
    if let Some(info) = there
        && is_current(&info)
    {
        return Ok(PullOutcome::Current(info));
    }
    if !request.force {
        refuse_if_needed(manager, &target.name, "replacing")?;
    }
    let kernel = kernel(manager, &images, &target.recipe.kernel_of, progress)?;
    let is_made = Cell::new(false);
    let info =
        images.build_with(&target.name, &agent, progress, is_current, |work, into, progress| {
            is_made.set(true);
            let layout = pull::fetch(&resolved, &store, work, progress)?;
            let named = NamedSource {
                path: Some(layout),
                title: Some(request.reference.to_string()),
                form: Some(RootfsFormat::Oci),
                reference: None,
                bounds: request.bounds,
            };
            let source = named.open(progress)?;
            let disk_mib = target.recipe.disk_mib.map_or_else(|| kernel.disk_mib(), Ok)?;
            let what = ImageImport { named, source, kernel: &kernel, disk_mib };
            let imported = import::make(what, work, into, progress)?;
            let profile = settings::imported_profile(&target.defaults, &wanted, &imported.command)?;
            atomic_file::write_new(&into.join(IMPORTED_PROFILE), profile.as_bytes())?;
            let pulled = Some(content(&resolved));
            let kernel_release = imported.kernel_release;
            Ok(ImageParts { kernel_release, recipe: wanted.clone(), pulled })
        })?;
    templates::prune_superseded(manager, &target.name)?;
    Ok(if is_made.get() { PullOutcome::Pulled(info) } else { PullOutcome::Current(info) })
}

fn target(manager: &VmManager, request: &PullRequest) -> Result<PullTarget> {
    let profiles = manager.settings.profiles()?;
    let reference = &request.reference;
    let name = match &request.name {
        Some(name) => name.clone(),
        None => reference.profile_name().map_err(|refusal| name_it(refusal, reference))?,
    };
    let known = profiles.profiles.get(&name);
    let earlier = known.and_then(|profile| profile.recipe.pulled());
    let is_same = earlier.is_some_and(|earlier| earlier.reference == *reference);
    let is_free = known.is_none() || is_same || (earlier.is_some() && request.name.is_some());
    let names_image = known.is_some_and(|profile| profile.names_image);
    if !is_free || (names_image && !is_same) {
        let message = format!("{:?} is already another profile", name.as_str());
        return Err(name_it(Refusal::new(RefusalKind::NameTaken, message), reference).into());
    }
    let earlier = earlier.filter(|_| is_same);
    if names_image {
        if request.has_wishes() {
            let place = profiles.places.get(&format!("profiles.{name}")).unwrap_or("a file");
            let message = format!("profile {:?} is in {place}", name.as_str());
            return Err(Refusal::usage(message).hint("change its keys there").into());
        }
        let recipe = earlier.cloned().context("the profile names no image")?;
        let defaults =
            ImportedDefaults { description: description(reference), ..request.defaults.clone() };
        return Ok(PullTarget { name, recipe, defaults, is_unchanged: true });
    }
    let directory = manager.settings.directories.artifacts.join(name.as_str());
    let old = match earlier {
        Some(_) => settings::imported_defaults(&directory, &name)?.unwrap_or_default(),
        None => ImportedDefaults::default(),
    };
    let asked = &request.defaults;
    let defaults = ImportedDefaults {
        description: description(reference),
        vcpu_count: asked.vcpu_count.or(old.vcpu_count),
        mem_mib: asked.mem_mib.or(old.mem_mib),
        ttl_seconds: asked.ttl_seconds.or(old.ttl_seconds),
    };
    let kernel_of = request.kernel_of.clone();
    let kernel_of = kernel_of.or_else(|| Some(earlier?.kernel_of.clone()));
    let recipe = PullRecipe {
        reference: reference.clone(),
        kernel_of: kernel_of.unwrap_or_else(|| KERNEL_OF.into()),
        disk_mib: request.disk_mib.or_else(|| earlier?.disk_mib),
    };
    let is_unchanged = defaults == old;
    Ok(PullTarget { name, recipe, defaults, is_unchanged })
}

fn description(reference: &ImageReference) -> String {
    format!("Pulled from {reference}.")
}

fn name_it(refusal: Refusal, reference: &ImageReference) -> Refusal {
    refusal.hint(format!("choose a name: mayfly image pull {reference} NAME"))
}

fn kernel(
    manager: &VmManager,
    images: &ImageStore,
    profile: &str,
    progress: &mut dyn ProgressSink,
) -> Result<LockedImage> {
    let profile = find_profile(manager.settings.profiles()?, profile)?;
    let kernel = images.ensure(profile, &installed_agent()?, progress)?;
    kernel.verify()?;
    Ok(kernel)
}

fn content(resolved: &ResolvedImage) -> PulledContent {
    PulledContent {
        digest: resolved.digest.to_string(),
        blobs: resolved.digests().iter().map(ToString::to_string).collect(),
    }
}
