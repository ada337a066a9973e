//! Profiles, images and templates, as `--json` prints them.

use std::collections::BTreeMap;

use serde::Serialize;

use super::escape::escape;
use crate::host::directory::DiskUsage;
use crate::image::ImageInfo;
use crate::model::{
    Accelerator, BackendKind, ImageRecipe, Isolation, NetworkMode, Profile, RootfsFormat,
};
use crate::template::{ListedTemplate, TemplateInfo};

/// A profile.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct ProfileView {
    /// Its name.
    profile: String,
    description: String,
    /// What its image is made of.
    recipe: RecipeView,
    vcpu_count: u32,
    /// MiB of memory.
    mem_mib: u32,
    ttl_seconds: u64,
    /// Whether `exec` keeps its VMs.
    keep: bool,
    /// The least isolation that its VMs may have.
    require: Isolation,
    /// Whether its VMs can run VMs.
    nested: bool,
    /// What its VMs reach besides `allow`.
    network: NetworkMode,
    /// What its VMs may reach, as rules of `--allow`.
    allow: Vec<String>,
    /// The ports of its VMs that this host reaches, as `--publish` takes them.
    publish: Vec<String>,
    /// What `run` puts before the words of a command.
    entrypoint: Vec<String>,
    /// The command of `run` if none is given.
    cmd: Vec<String>,
    /// Variables of every command.
    env: BTreeMap<String, String>,
    /// The user of commands.
    user: Option<String>,
    /// The working directory of commands.
    workdir: Option<String>,
    /// Whether its image exists.
    image_built: bool,
}

impl ProfileView {
    pub fn new(profile: &Profile, image_built: bool) -> ProfileView {
        let command = profile.command.clone();
        ProfileView {
            profile: profile.name.to_string(),
            description: profile.description.clone(),
            recipe: RecipeView::from(&profile.recipe),
            vcpu_count: profile.vcpu_count,
            mem_mib: profile.mem_mib,
            ttl_seconds: profile.ttl_seconds,
            keep: profile.keep,
            require: profile.require,
            nested: profile.nested,
            network: profile.network.mode,
            allow: profile.network.allow.iter().map(ToString::to_string).collect(),
            publish: profile.network.publish.iter().map(ToString::to_string).collect(),
            entrypoint: command.entrypoint,
            cmd: command.cmd,
            env: command.env,
            user: command.user,
            workdir: command.workdir,
            image_built,
        }
    }
}

/// What an image is made of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct RecipeView {
    /// The package of its kernel; `null` if it is that of another profile.
    kernel: Option<String>,
    /// The container image that is pulled, with its registry; `null` if it is not pulled.
    image: Option<String>,
    /// The Debian release; `null` if it is not made of packages.
    suite: Option<String>,
    /// Where its packages come from, if the profile says so.
    mirror: Option<String>,
    /// Packages beyond the essential ones and the kernel; `null` if it is not made of packages.
    packages: Option<Vec<String>>,
    /// MiB of the root file system; `null` if it is not made of packages.
    root_mib: Option<u32>,
    /// MiB of each VM's own disk; `null` if it is not made of packages.
    disk_mib: Option<u32>,
    /// Where it was imported from; `null` if it was built here or pulled.
    imported: Option<ImportView>,
}

/// What was imported.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct ImportView {
    /// The file or directory; `-` for standard input.
    source: String,
    form: RootfsFormat,
    /// What the archive calls the image.
    reference: Option<String>,
    /// The digest of the container image's manifest, or of its configuration if there is no manifest.
    digest: Option<String>,
}

impl From<&ImageRecipe> for RecipeView {
    fn from(recipe: &ImageRecipe) -> RecipeView {
        let debian = recipe.debian();
        RecipeView {
            kernel: recipe.kernel().map(str::to_owned),
            image: recipe.pulled().map(|pull| pull.reference.to_string()),
            suite: debian.map(|debian| debian.suite.clone()),
            mirror: debian.and_then(|debian| debian.mirror.clone()),
            packages: debian.map(|debian| debian.packages.clone()),
            root_mib: debian.map(|debian| debian.root_mib),
            disk_mib: debian.map(|debian| debian.disk_mib),
            imported: match recipe {
                ImageRecipe::Debian(_) | ImageRecipe::Pulled(_) => None,
                ImageRecipe::Imported(import) => Some(ImportView {
                    source: import.source.clone(),
                    form: import.form,
                    reference: import.reference.clone(),
                    digest: import.digest.clone(),
                }),
            },
        }
    }
}

/// An image.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct ImageView {
    /// The profile it belongs to.
    profile: String,
    /// Identifies its kernel, root file system and empty disk.
    image_digest: String,
    /// The container image that was pulled or imported, as the registry or archive calls it.
    reference: Option<String>,
    /// The digest of what `reference` meant then.
    digest: Option<String>,
    recipe: RecipeView,
    /// As `uname -r` prints it in a VM.
    kernel_release: String,
    created_at: f64,
    /// What its files take on the disk. They are sparse.
    bytes: u64,
    /// The lengths of its files.
    apparent_bytes: u64,
    /// By name.
    files: BTreeMap<String, ImageFileView>,
}

/// A file of an image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct ImageFileView {
    /// Its length.
    apparent_bytes: u64,
    digest: String,
}

impl ImageView {
    pub fn new(info: &ImageInfo, usage: DiskUsage) -> Self {
        let files = info.files.iter().map(|(name, file)| {
            let view = ImageFileView { apparent_bytes: file.size, digest: file.digest.clone() };
            (name.clone(), view)
        });
        let (reference, digest) = match &info.recipe {
            ImageRecipe::Imported(import) => (import.reference.clone(), import.digest.clone()),
            recipe => (
                recipe.pulled().map(|pull| pull.reference.to_string()),
                info.pulled.as_ref().map(|pulled| pulled.digest.clone()),
            ),
        };
        ImageView {
            profile: info.profile.to_string(),
            image_digest: info.id(),
            reference,
            digest,
            recipe: RecipeView::from(&info.recipe),
            kernel_release: info.kernel_release.clone(),
            created_at: info.built_at,
            bytes: usage.bytes,
            apparent_bytes: usage.apparent_bytes,
            files: files.collect(),
        }
    }
}

/// A template. If it is damaged, everything but its name, size and last use is `null`.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct TemplateView {
    /// Its name.
    template: String,
    damaged: bool,
    profile: Option<String>,
    /// The digest of its image.
    image_digest: Option<String>,
    backend: Option<BackendKind>,
    accelerator: Option<Accelerator>,
    vcpu_count: Option<u32>,
    /// MiB of memory.
    mem_mib: Option<u32>,
    /// The version of the VMM that made it.
    vmm_version: Option<String>,
    /// What its files take on the disk. They are sparse.
    bytes: u64,
    created_at: Option<f64>,
    last_used_at: Option<f64>,
}

impl TemplateView {
    pub fn new(listed: &ListedTemplate) -> Self {
        let info: Option<&TemplateInfo> = listed.info.as_ref();
        TemplateView {
            template: listed.name.clone(),
            damaged: info.is_none(),
            profile: info.map(|info| info.profile.to_string()),
            image_digest: info.map(|info| info.image.clone()),
            backend: info.map(|info| info.backend),
            accelerator: info.map(|info| info.accelerator),
            vcpu_count: info.map(|info| info.vcpu_count),
            mem_mib: info.map(|info| info.mem_mib),
            vmm_version: info.map(|info| escape(&info.vmm_version)),
            bytes: listed.bytes,
            created_at: info.map(|info| info.made_at),
            last_used_at: Some(listed.last_used).filter(|at| *at > 0.0),
        }
    }
}
