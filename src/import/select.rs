//! Selecting an image of an archive, and finding its parts.

use std::collections::BTreeSet;

use anyhow::{Result, bail};
use serde::de::DeserializeOwned;

use super::blobs::PackedFiles;
use super::digest_reader::BlobDigest;
use super::form::{INDEX, MANIFEST};
use super::manifest::{BlobDescriptor, DockerImage, ImagePlatform, OciConfiguration, OciDocument};
use super::path::shown;
use super::unpack::SourceLayer;
use crate::model::{CommandDefaults, Refusal, RefusalKind};

/// The greatest depth of indexes in indexes.
const MAX_DEPTH: usize = 4;

/// The most layers of an image. Docker allows 127.
const MAX_LAYERS: usize = 500;

/// Media types of the configurations of images.
const CONFIGURATIONS: [&str; 2] =
    ["application/vnd.oci.image.config.v1+json", "application/vnd.docker.container.image.v1+json"];

/// The selected image.
#[derive(Debug)]
pub struct SelectedImage {
    pub reference: Option<String>,
    pub digest: BlobDigest,
    pub layers: Vec<SourceLayer>,
    pub command: CommandDefaults,
}

/// Selects an image of an OCI layout: the one called `wanted`, or the only one.
///
/// # Errors
/// `Usage` if there is no such image, several, or an invalid one; `Host` if it is for another machine.
pub fn from_layout(packed: &PackedFiles, wanted: Option<&str>) -> Result<SelectedImage> {
    let index: OciDocument = parse(&packed.document(INDEX)?, INDEX)?;
    let mut all = index.manifests.unwrap_or_default();
    all.retain(|one| !one.is_attestation());
    let top = pick(&all, wanted)?;
    let is_named = |name: &&str| top.iter().any(|one| one.is_called(name));
    let reference = wanted.filter(is_named).or_else(|| top.iter().find_map(|one| one.reference()));
    let reference = reference.map(str::to_owned);
    let mut candidates: Vec<BlobDescriptor> = top.into_iter().cloned().collect();
    for _ in 0..MAX_DEPTH {
        let descriptor = for_us(&candidates)?;
        let text = checked(packed, &descriptor)?;
        let document: OciDocument = parse(&text, "its manifest")?;
        if let Some(manifests) = document.manifests {
            candidates = manifests;
            candidates.retain(|one| !one.is_attestation());
            continue;
        }
        let (Some(config), Some(layers)) = (document.config, document.layers) else {
            bail!(Refusal::usage("its manifest is not that of an image"));
        };
        if !config.media_type.is_empty() && !CONFIGURATIONS.contains(&config.media_type.as_str()) {
            let kind = shown(config.media_type.as_bytes());
            let message = format!(
                "it is not an image of a root file system: its configuration has type {kind}"
            );
            bail!(Refusal::usage(message));
        }
        let configuration: OciConfiguration =
            parse(&checked(packed, &config)?, "its configuration")?;
        let layers = layers.iter().map(|layer| layer_of(packed, layer)).collect::<Result<_>>()?;
        return finish(reference, descriptor.digest, configuration, layers);
    }
    bail!(Refusal::usage("its indexes are nested too deeply"))
}

/// Selects an image of an archive of `docker save`.
///
/// # Errors
/// Those of [`from_layout`].
pub fn from_docker(packed: &PackedFiles, wanted: Option<&str>) -> Result<SelectedImage> {
    let mut images: Vec<DockerImage> = parse(&packed.document(MANIFEST)?, MANIFEST)?;
    // Some tools list an image once for each of its names.
    images.dedup_by(|next, first| {
        let is_same = next.config == first.config && next.layers == first.layers;
        if is_same {
            first
                .repo_tags
                .get_or_insert_default()
                .extend(next.repo_tags.take().into_iter().flatten());
        }
        is_same
    });
    let tags = |image: &DockerImage| image.repo_tags.clone().unwrap_or_default();
    let names: Vec<String> = images.iter().flat_map(tags).collect();
    let meant: Vec<&DockerImage> = images
        .iter()
        .filter(|image| wanted.is_none_or(|wanted| tags(image).iter().any(|tag| tag == wanted)))
        .collect();
    let image = match (&meant[..], wanted) {
        ([image], _) => *image,
        ([], Some(wanted)) => return Err(not_there(wanted, &names).into()),
        ([], None) => bail!(Refusal::usage("it holds no image")),
        (several, _) => return Err(ambiguous(several.len(), &names).into()),
    };
    let text = packed.document(&image.config)?;
    // A file whose name is a digest must have that digest.
    let named = image.config.rsplit('/').next().unwrap_or_default();
    let named = named.trim_start_matches("sha256:").trim_end_matches(".json");
    if let Ok(digest) = format!("sha256:{named}").parse::<BlobDigest>() {
        digest.check(&text, "its configuration")?;
    }
    let configuration = parse(&text, "its configuration")?;
    let layers = image.layers.clone().unwrap_or_default();
    let layers = layers
        .iter()
        .map(|name| {
            let place = packed.find(name)?;
            Ok(SourceLayer { place, digest: None, size: None, diff_id: None })
        })
        .collect::<Result<_>>()?;
    let reference =
        wanted.map(str::to_owned).or_else(|| image.repo_tags.as_ref()?.first().cloned());
    finish(reference, BlobDigest::sha256(&text), configuration, layers)
}

fn finish(
    reference: Option<String>,
    digest: BlobDigest,
    configuration: OciConfiguration,
    mut layers: Vec<SourceLayer>,
) -> Result<SelectedImage> {
    let platform = ImagePlatform {
        os: configuration.os.filter(|os| !os.is_empty()).unwrap_or_else(|| "linux".into()),
        architecture: configuration.architecture.unwrap_or_else(|| "amd64".into()),
    };
    if !platform.is_ours() {
        return Err(for_others(&[platform]).into());
    }
    if layers.is_empty() || layers.len() > MAX_LAYERS {
        bail!(Refusal::usage(format!("it has {} layers", layers.len())));
    }
    let diff_ids = configuration.rootfs.and_then(|rootfs| rootfs.diff_ids).unwrap_or_default();
    if !diff_ids.is_empty() && diff_ids.len() != layers.len() {
        let (named, found) = (diff_ids.len(), layers.len());
        let message = format!("its configuration names {named} layers, but it has {found}");
        bail!(Refusal::usage(message));
    }
    let command = configuration.config.unwrap_or_default().defaults();
    if let Some((_, problem)) = command.problem() {
        bail!(Refusal::usage(problem));
    }
    for (layer, diff_id) in layers.iter_mut().zip(diff_ids) {
        layer.diff_id = Some(diff_id);
    }
    Ok(SelectedImage { reference, digest, layers, command })
}

/// The entries of an index that are called `wanted`; without that, all, if they can be one image.
fn pick<'a>(all: &'a [BlobDescriptor], wanted: Option<&str>) -> Result<Vec<&'a BlobDescriptor>> {
    let names = || -> Vec<String> {
        all.iter().filter_map(|one| one.reference()).map(str::to_owned).collect()
    };
    let Some(wanted) = wanted else {
        // An image for several machines is an index of its own, or entries with a platform each.
        let different = names().iter().collect::<BTreeSet<_>>().len();
        let are_variants = different <= 1 && all.iter().all(|one| one.platform.is_some());
        // One with several names is still one.
        let digests = all.iter().map(|one| one.digest.to_string()).collect::<BTreeSet<_>>().len();
        return match digests {
            0 => Err(Refusal::usage("it holds no image").into()),
            1 => Ok(all.iter().collect()),
            _ if are_variants => Ok(all.iter().collect()),
            several => Err(ambiguous(several, &names()).into()),
        };
    };
    let meant: Vec<_> = all
        .iter()
        .filter(|one| one.is_called(wanted) || one.digest.to_string() == wanted)
        .collect();
    if meant.is_empty() {
        return Err(not_there(wanted, &names()).into());
    }
    Ok(meant)
}

/// The entry for linux/amd64. If there is none, one without a platform: its configuration has it.
///
/// # Errors
/// `Host` if all are for other machines.
pub fn for_us(candidates: &[BlobDescriptor]) -> Result<BlobDescriptor, Refusal> {
    let is_ours = |one: &&BlobDescriptor| one.platform.as_ref().is_some_and(ImagePlatform::is_ours);
    let has_none = |one: &&BlobDescriptor| one.platform.is_none();
    if let Some(found) = candidates.iter().find(is_ours).or(candidates.iter().find(has_none)) {
        return Ok(found.clone());
    }
    Err(for_others(&candidates.iter().filter_map(|one| one.platform.clone()).collect::<Vec<_>>()))
}

fn layer_of(packed: &PackedFiles, layer: &BlobDescriptor) -> Result<SourceLayer> {
    // The media types of layers in both standards contain "tar".
    let kind = layer.media_type.as_str();
    let is_layer = kind.is_empty()
        || ((kind.starts_with("application/vnd.oci.image.layer.")
            || kind.starts_with("application/vnd.docker.image.rootfs."))
            && kind.contains("tar")
            && !kind.contains("encrypted"));
    if !is_layer {
        let message = format!(
            "one of its layers has type {}, which is not a file system",
            shown(kind.as_bytes())
        );
        bail!(Refusal::usage(message));
    }
    let place = packed.find(&layer.digest.blob())?;
    let digest = Some(layer.digest.clone());
    Ok(SourceLayer { place, digest, size: layer.size, diff_id: None })
}

fn checked(packed: &PackedFiles, descriptor: &BlobDescriptor) -> Result<Vec<u8>> {
    let text = packed.document(&descriptor.digest.blob())?;
    descriptor.digest.check(&text, "a document in it")?;
    Ok(text)
}

fn parse<T: DeserializeOwned>(text: &[u8], what: &str) -> Result<T, Refusal> {
    serde_json::from_slice(text)
        .map_err(|error| Refusal::usage(format!("{what} cannot be parsed: {error}")))
}

fn for_others(platforms: &[ImagePlatform]) -> Refusal {
    let names: Vec<String> =
        platforms.iter().map(|one| shown(one.to_string().as_bytes())).collect();
    let names =
        if names.is_empty() { "no machine".to_owned() } else { names.join(", ").replace('"', "") };
    Refusal::new(
        RefusalKind::Host,
        format!("the image is for {names}, but VMs here are linux/amd64"),
    )
    .hint("fetch it for amd64, as with 'skopeo copy --override-arch amd64'")
}

fn ambiguous(count: usize, names: &[String]) -> Refusal {
    Refusal::usage(format!("it holds {count} images{}", listed(names)))
        .hint("choose one: --ref NAME")
}

fn not_there(wanted: &str, names: &[String]) -> Refusal {
    Refusal::usage(format!("it holds no image {wanted:?}{}", listed(names)))
        .hint("omit --ref if there is only one")
}

fn listed(names: &[String]) -> String {
    let shown: Vec<String> = names.iter().take(20).map(|name| shown(name.as_bytes())).collect();
    if shown.is_empty() { String::new() } else { format!(": {}", shown.join(", ")) }
}
