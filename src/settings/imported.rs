//! Profiles of imported and pulled images. Each is a file in the image's directory, so that both are replaced and
//! deleted together. Files that users write take precedence, field by field.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

use super::layer::ProfileLayer;
use crate::host::{input, ownership};
use crate::model::profile::IMPORTED_PROFILE;
use crate::model::{
    CommandDefaults, ImageRecipe, ImportRecipe, ProfileName, PullRecipe, Refusal, RefusalKind,
};

const HEAD: &str = "\
# Written by 'mayfly image import' or 'pull', and deleted with the image. To change what is in [profile], write it
# under the name of this profile in your profiles.toml, which takes precedence.

";

#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    imported: Option<ImportRecipe>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pulled: Option<PullRecipe>,
    profile: ProfileLayer,
}

/// What the user of `image import` or `image pull` asked for; `None` for the default.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ImportedDefaults {
    pub description: String,
    pub vcpu_count: Option<u32>,
    pub mem_mib: Option<u32>,
    pub ttl_seconds: Option<u64>,
}

/// The text of the file with the profile of an imported or pulled image.
pub fn text(
    defaults: &ImportedDefaults,
    recipe: &ImageRecipe,
    command: &CommandDefaults,
) -> Result<String> {
    let list = |words: &Vec<String>| (!words.is_empty()).then(|| words.clone());
    let profile = ProfileLayer {
        description: Some(defaults.description.clone()),
        vcpu_count: defaults.vcpu_count,
        mem_mib: defaults.mem_mib,
        ttl_seconds: defaults.ttl_seconds,
        entrypoint: list(&command.entrypoint),
        cmd: list(&command.cmd),
        env: (!command.env.is_empty()).then(|| command.env.clone()),
        user: command.user.clone(),
        workdir: command.workdir.clone(),
        ..ProfileLayer::default()
    };
    let (imported, pulled) = match recipe {
        ImageRecipe::Imported(import) => (Some(import.clone()), None),
        ImageRecipe::Pulled(pull) => (None, Some(pull.clone())),
        ImageRecipe::Debian(_) => bail!("images of packages have no profile of their own"),
    };
    let file = File { imported, pulled, profile };
    Ok(format!("{HEAD}{}", toml::to_string_pretty(&file).context("cannot write the profile")?))
}

/// The profiles of the images in `artifacts`, which need not exist.
///
/// # Errors
/// `Host` if another user could have written one.
pub(super) fn read_all(artifacts: &Path) -> Result<BTreeMap<ProfileName, ProfileLayer>> {
    let mut profiles = BTreeMap::new();
    if !ownership::check_directory(artifacts)? {
        return Ok(profiles);
    }
    let cannot = || format!("cannot list {}", artifacts.display());
    for entry in std::fs::read_dir(artifacts).with_context(cannot)? {
        let entry = entry.with_context(cannot)?;
        if let Some(Ok(name)) = entry.file_name().to_str().map(str::parse::<ProfileName>)
            && let Some(layer) = read(&entry.path(), &name)?
        {
            profiles.insert(name, layer);
        }
    }
    Ok(profiles)
}

/// The profile in an image's directory.
fn read(image: &Path, name: &ProfileName) -> Result<Option<ProfileLayer>> {
    let path = image.join(IMPORTED_PROFILE);
    // An image that was built has none, and a file is not an image.
    if path.symlink_metadata().is_err() || !ownership::check_contents(image, |_| false)? {
        return Ok(None);
    }
    let text = input::read_regular(&path);
    let text = text.with_context(|| format!("cannot read {}", path.display()))?;
    let refuse = |why: &str| {
        Refusal::new(RefusalKind::Host, format!("{}: {why}", path.display()))
            .hint(format!("make the image again, or delete it: mayfly image rm {name}"))
    };
    let file: File =
        toml::from_slice(&text).map_err(|error| refuse(error.to_string().trim_end()))?;
    let origin = match (file.imported, file.pulled) {
        (Some(import), None) => ImageRecipe::Imported(import),
        (None, Some(pull)) => ImageRecipe::Pulled(pull),
        _ => return Err(refuse("it must have one of [imported] and [pulled]").into()),
    };
    Ok(Some(ProfileLayer { origin: Some(origin), ..file.profile }))
}

/// What the user asked for when the image in `image` was imported or pulled; `None` if there is none.
///
/// # Errors
/// Those of [`read_all`].
pub fn defaults_of(image: &Path, name: &ProfileName) -> Result<Option<ImportedDefaults>> {
    Ok(read(image, name)?.map(|layer| ImportedDefaults {
        description: layer.description.unwrap_or_default(),
        vcpu_count: layer.vcpu_count,
        mem_mib: layer.mem_mib,
        ttl_seconds: layer.ttl_seconds,
    }))
}
