//! Which image of an archive is meant, and what it is made of.

use anyhow::{Result, bail};
use serde::de::DeserializeOwned;

use super::blobs::{BlobLocation, PackedFiles};
use super::digest_reader::BlobDigest;
use super::manifest::{BlobDescriptor, DockerImage, ImagePlatform, OciConfiguration, OciDocument};
use super::path::shown;
use super::unpack::SourceLayer;
use crate::model::{CommandDefaults, Refusal, RefusalKind};

/// Indexes in indexes that are followed.
const MAX_DEPTH: usize = 4;

/// Layers of one image. Docker allows 127.
const MAX_LAYERS: usize = 500;

/// What pointers to configurations of images call them.
const CONFIGURATIONS: [&str; 2] =
    ["application/vnd.oci.image.config.v1+json", "application/vnd.docker.container.image.v1+json"];

/// An image that was chosen.
#[derive(Debug)]
pub struct SelectedImage {
    pub reference: Option<String>,
    pub digest: BlobDigest,
    pub layers: Vec<SourceLayer>,
    pub command: CommandDefaults,
}

/// Chooses from a layout: the image called `wanted`, or the only one.
///
/// Errors: `Usage` where that is not clear or not right, `Host` where it is for another machine.
pub fn from_layout(packed: &PackedFiles, wanted: Option<&str>) -> Result<SelectedImage> {
    let index: OciDocument = parse(&packed.document("index.json")?, "index.json")?;
    let all = index.manifests.unwrap_or_default();
    let top = pick(&all, wanted)?;
    let reference = top.iter().find_map(|one| one.reference()).map(str::to_owned);
    let mut candidates: Vec<BlobDescriptor> = top.into_iter().cloned().collect();
    for _ in 0..MAX_DEPTH {
        let descriptor = for_us(&candidates)?;
        let text = checked(packed, &descriptor)?;
        let document: OciDocument = parse(&text, "its manifest")?;
        if let Some(manifests) = document.manifests {
            candidates = manifests;
            continue;
        }
        let (Some(config), Some(layers)) = (document.config, document.layers) else {
            bail!(Refusal::new(RefusalKind::Usage, "its manifest is none of an image"));
        };
        if !config.media_type.is_empty() && !CONFIGURATIONS.contains(&config.media_type.as_str()) {
            let kind = shown(config.media_type.as_bytes());
            let message =
                format!("it is no image of a system: its configuration is of type {kind}");
            bail!(Refusal::new(RefusalKind::Usage, message));
        }
        let configuration: OciConfiguration =
            parse(&checked(packed, &config)?, "its configuration")?;
        let places = layers.iter().map(|layer| place_of(packed, layer)).collect::<Result<_>>()?;
        return finish(reference, descriptor.digest, configuration, places);
    }
    bail!(Refusal::new(RefusalKind::Usage, "its indexes lead to more indexes without end"))
}

/// The same for an archive of `docker save`.
pub fn from_docker(packed: &PackedFiles, wanted: Option<&str>) -> Result<SelectedImage> {
    let images: Vec<DockerImage> = parse(&packed.document("manifest.json")?, "manifest.json")?;
    let tags = |image: &DockerImage| image.repo_tags.clone().unwrap_or_default();
    let names: Vec<String> = images.iter().flat_map(tags).collect();
    let meant: Vec<&DockerImage> = images
        .iter()
        .filter(|image| wanted.is_none_or(|wanted| tags(image).iter().any(|tag| tag == wanted)))
        .collect();
    let image = match (&meant[..], wanted) {
        ([image], _) => *image,
        ([], Some(wanted)) => return Err(not_there(wanted, &names).into()),
        ([], None) => bail!(Refusal::new(RefusalKind::Usage, "it holds no image")),
        (several, _) => return Err(ambiguous(several.len(), &names).into()),
    };
    let text = packed.document(&image.config)?;
    // A file that is called by its digest must have it.
    let named = image.config.rsplit('/').next().unwrap_or_default().trim_end_matches(".json");
    if let Ok(digest) = format!("sha256:{named}").parse::<BlobDigest>() {
        digest.check(&text, "its configuration")?;
    }
    let configuration = parse(&text, "its configuration")?;
    let layers = image.layers.clone().unwrap_or_default();
    let places =
        layers.iter().map(|name| Ok((packed.find(name)?, None, None))).collect::<Result<_>>()?;
    let reference =
        wanted.map(str::to_owned).or_else(|| image.repo_tags.as_ref()?.first().cloned());
    finish(reference, BlobDigest::sha256(&text), configuration, places)
}

/// A layer as its pointer has it: where it is, its digest and its length.
type Packing = (BlobLocation, Option<BlobDigest>, Option<u64>);

fn finish(
    reference: Option<String>,
    digest: BlobDigest,
    configuration: OciConfiguration,
    packings: Vec<Packing>,
) -> Result<SelectedImage> {
    let platform = ImagePlatform {
        os: configuration.os.filter(|os| !os.is_empty()).unwrap_or_else(|| "linux".into()),
        architecture: configuration.architecture.unwrap_or_else(|| "amd64".into()),
    };
    if !platform.is_ours() {
        return Err(for_others(&[platform]).into());
    }
    if packings.is_empty() || packings.len() > MAX_LAYERS {
        bail!(Refusal::new(RefusalKind::Usage, format!("it has {} layers", packings.len())));
    }
    let diff_ids = configuration.rootfs.and_then(|rootfs| rootfs.diff_ids).unwrap_or_default();
    if !diff_ids.is_empty() && diff_ids.len() != packings.len() {
        let (layers, diff_ids) = (packings.len(), diff_ids.len());
        let message = format!("its configuration speaks of {diff_ids} layers, and it has {layers}");
        bail!(Refusal::new(RefusalKind::Usage, message));
    }
    let command = configuration.config.unwrap_or_default().defaults();
    if let Some(problem) = command.problem() {
        bail!(Refusal::new(RefusalKind::Usage, problem));
    }
    let layers = packings.into_iter().enumerate().map(|(number, (place, digest, size))| {
        SourceLayer { place, digest, size, diff_id: diff_ids.get(number).cloned() }
    });
    Ok(SelectedImage { reference, digest, layers: layers.collect(), command })
}

/// The entries of an index that are called `wanted`; without a wish all, if they can be one image.
fn pick<'a>(all: &'a [BlobDescriptor], wanted: Option<&str>) -> Result<Vec<&'a BlobDescriptor>> {
    let names = || -> Vec<String> {
        all.iter().filter_map(|one| one.reference()).map(str::to_owned).collect()
    };
    let Some(wanted) = wanted else {
        // One image for several machines is an index of its own, or entries that say for which.
        let different = names().iter().collect::<std::collections::BTreeSet<_>>().len();
        let are_variants = different <= 1 && all.iter().all(|one| one.platform.is_some());
        return match all {
            [] => Err(Refusal::new(RefusalKind::Usage, "it holds no image").into()),
            [_] => Ok(all.iter().collect()),
            _ if are_variants => Ok(all.iter().collect()),
            _ => Err(ambiguous(all.len(), &names()).into()),
        };
    };
    let meant: Vec<_> = all
        .iter()
        .filter(|one| one.reference() == Some(wanted) || one.digest.to_string() == wanted)
        .collect();
    if meant.is_empty() {
        return Err(not_there(wanted, &names()).into());
    }
    Ok(meant)
}

/// The one for linux/amd64. Where an entry does not say, its configuration will.
fn for_us(candidates: &[BlobDescriptor]) -> Result<BlobDescriptor, Refusal> {
    let is_ours = |one: &&BlobDescriptor| one.platform.as_ref().is_some_and(ImagePlatform::is_ours);
    let unsaid = |one: &&BlobDescriptor| one.platform.is_none();
    if let Some(found) = candidates.iter().find(is_ours).or(candidates.iter().find(unsaid)) {
        return Ok(found.clone());
    }
    // Attestations stand beside images, for no machine.
    let platforms = candidates.iter().filter_map(|one| one.platform.clone());
    let platforms: Vec<_> = platforms.filter(|platform| platform.os != "unknown").collect();
    Err(for_others(&platforms))
}

fn place_of(packed: &PackedFiles, layer: &BlobDescriptor) -> Result<Packing> {
    // Both standards' names of layers have it in them, but not those of encrypted ones or of files
    // that are no layers.
    let kind = layer.media_type.as_str();
    let is_layer = kind.is_empty()
        || ((kind.starts_with("application/vnd.oci.image.layer.")
            || kind.starts_with("application/vnd.docker.image.rootfs."))
            && kind.contains("tar")
            && !kind.contains("encrypted"));
    if !is_layer {
        let message =
            format!("a layer of it is of type {}, which is no file system", shown(kind.as_bytes()));
        bail!(Refusal::new(RefusalKind::Usage, message));
    }
    let place = packed.find(&layer.digest.blob())?;
    Ok((place, Some(layer.digest.clone()), layer.size))
}

fn checked(packed: &PackedFiles, descriptor: &BlobDescriptor) -> Result<Vec<u8>> {
    let text = packed.document(&descriptor.digest.blob())?;
    descriptor.digest.check(&text, "a description in it")?;
    Ok(text)
}

fn parse<T: DeserializeOwned>(text: &[u8], what: &str) -> Result<T, Refusal> {
    serde_json::from_slice(text).map_err(|error| {
        Refusal::new(RefusalKind::Usage, format!("{what} is not understood: {error}"))
    })
}

fn for_others(platforms: &[ImagePlatform]) -> Refusal {
    let names: Vec<String> =
        platforms.iter().map(|one| shown(one.to_string().as_bytes())).collect();
    let names =
        if names.is_empty() { "no machine".to_owned() } else { names.join(", ").replace('"', "") };
    Refusal::new(
        RefusalKind::Host,
        format!("the image is for {names}, and VMs here are linux/amd64"),
    )
    .hint("fetch it for amd64, as with 'skopeo copy --override-arch amd64'")
}

fn ambiguous(count: usize, names: &[String]) -> Refusal {
    Refusal::new(RefusalKind::Usage, format!("it holds {count} images{}", listed(names)))
        .hint("say which one: --ref NAME")
}

fn not_there(wanted: &str, names: &[String]) -> Refusal {
    Refusal::new(RefusalKind::Usage, format!("it holds no image {wanted:?}{}", listed(names)))
        .hint("leave --ref out where there is only one")
}

fn listed(names: &[String]) -> String {
    let shown: Vec<String> = names.iter().take(20).map(|name| shown(name.as_bytes())).collect();
    if shown.is_empty() { String::new() } else { format!(": {}", shown.join(", ")) }
}
