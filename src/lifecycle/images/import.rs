//! `image import`: importing an image and making a profile for it.

use anyhow::Result;

use super::templates;
use super::users::refuse_if_needed;
use crate::backend::installed_agent;
use crate::host::atomic_file;
use crate::image::{ImageInfo, ImageParts, PHASES, ProgressSink};
use crate::import::{self, NamedSource};
use crate::lifecycle::manager::VmManager;
use crate::model::profile::{DISK_MIB, IMPORTED_PROFILE};
use crate::model::{
    ImageRecipe, ImportRecipe, MemMib, ProfileName, ProfileSet, Refusal, RefusalKind, TimeSpan,
};
use crate::settings::{self, ImportedDefaults, Settings, find_profile};

/// What to import, and as which profile.
#[derive(Debug)]
pub struct ImportRequest {
    pub named: NamedSource,
    /// The name of the new profile.
    pub name: ProfileName,
    /// The defaults of its VMs. An empty description is filled in.
    pub defaults: ImportedDefaults,
    /// The size of each VM's own disk in MiB; `None` for that of the profile with the kernel.
    pub disk_mib: Option<u32>,
    /// The profile whose image has the kernel to boot.
    pub kernel_of: String,
    /// Replace an image of the same name even if VMs need it.
    pub force: bool,
}

/// Imports an image and makes a profile for it, replacing an imported image of the same name. Builds
/// the image with the kernel if it is missing.
///
/// # Errors
/// `NameTaken` for a profile of Debian packages; `WrongState` if VMs need the image to be replaced,
/// unless `force`; `Usage` for defaults outside the limits; the errors of reading the source.
pub fn import_image(
    manager: &VmManager,
    request: ImportRequest,
    progress: &mut dyn ProgressSink,
) -> Result<ImageInfo> {
    let ImportRequest { named, name, mut defaults, .. } = request;
    let profiles = manager.settings.profiles()?;
    check_name(profiles, &name)?;
    check_defaults(&manager.settings, &defaults, request.disk_mib)?;
    let kernel_of = find_profile(profiles, &request.kernel_of)?;
    let (images, agent) = (manager.images()?, installed_agent()?);
    // The source is opened first, so that no kernel is built for a source that cannot be used.
    let source = named.open(progress)?;
    if !request.force {
        refuse_if_needed(manager, &name, "replacing")?;
    }
    let kernel = images.ensure(kernel_of, &agent, progress)?;
    kernel.verify()?;
    let disk_mib = request.disk_mib.map_or_else(|| kernel.disk_mib(), Ok)?;
    let shown = named.shown();
    let path = named.path.as_ref().map_or_else(|| "-".into(), |path| path.display().to_string());
    let is_current = |_: &ImageInfo| false;
    let info = images.build_with(&name, &agent, progress, is_current, |work, into, progress| {
        progress.phase(&format!("reading {shown}"), 1, PHASES);
        let what = import::ImageImport { named, source, kernel: &kernel, disk_mib };
        let imported = import::make(what, work, into, progress)?;
        let kernel = kernel.info();
        let recipe = ImportRecipe {
            source: path,
            form: imported.form,
            reference: imported.reference,
            digest: imported.digest,
            kernel: kernel.recipe.kernel().unwrap_or(&kernel.kernel_release).to_owned(),
        };
        if defaults.description.is_empty() {
            defaults.description = description(&recipe);
        }
        let recipe = ImageRecipe::Imported(recipe);
        let profile = settings::imported_profile(&defaults, &recipe, &imported.command)?;
        atomic_file::write_new(&into.join(IMPORTED_PROFILE), profile.as_bytes())?;
        Ok(ImageParts { kernel_release: imported.kernel_release, recipe, pulled: None })
    })?;
    templates::prune_superseded(manager, &name)?;
    Ok(info)
}

/// The description of an imported profile: its source and the archive's name for it.
fn description(import: &ImportRecipe) -> String {
    let source = match import.source.as_str() {
        "-" => "standard input",
        source => source,
    };
    match &import.reference {
        Some(reference) => format!("Imported from {source} ({reference})."),
        None => format!("Imported from {source}."),
    }
}

fn check_name(profiles: &ProfileSet, name: &ProfileName) -> Result<(), Refusal> {
    let of_what = match profiles.profiles.get(name).map(|profile| &profile.recipe) {
        Some(ImageRecipe::Debian(_)) => "of Debian packages",
        Some(ImageRecipe::Pulled(_)) => "of an image from a registry",
        Some(ImageRecipe::Imported(_)) | None => return Ok(()),
    };
    let message = format!("{:?} is already a profile {of_what}", name.as_str());
    Err(Refusal::new(RefusalKind::NameTaken, message)
        .hint("choose another name: mayfly image import SOURCE NAME"))
}

pub(super) fn check_defaults(
    settings: &Settings,
    defaults: &ImportedDefaults,
    disk_mib: Option<u32>,
) -> Result<()> {
    let limits = &settings.profiles()?.limits;
    let check = |flag, limit, value: Option<u64>, bounds, shown| {
        value.map_or(Ok(()), |value| settings.check_limit(limit, bounds, (flag, value), shown))
    };
    let count = |count: u64| count.to_string();
    let cpus = defaults.vcpu_count.map(u64::from);
    check("--vcpus", "vcpu_count", cpus, limits.vcpu_count, count)?;
    let mem = defaults.mem_mib.map(u64::from);
    check("--mem", "mem_mib", mem, limits.mem_mib, MemMib::shown)?;
    check("--ttl", "ttl_seconds", defaults.ttl_seconds, limits.ttl_seconds, TimeSpan::shown)?;
    let disk = disk_mib.map(u64::from);
    let problem = disk.and_then(|disk| DISK_MIB.problem("--disk", disk, MemMib::shown));
    problem.map_or(Ok(()), |problem| Err(Refusal::usage(problem).into()))
}
