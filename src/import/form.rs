//! What a source is, decided by its content. Neither the order nor the names of its other files matter: tools begin
//! their archives with anything, and a root file system may contain files that are called like those of an image.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::blobs::PackedFiles;
use super::manifest::{DockerImage, OciDocument};
use crate::model::{Refusal, RootfsFormat};

/// The files in an image's root that say what it is.
pub const INDEX: &str = "index.json";
pub const LAYOUT: &str = "oci-layout";
pub const MANIFEST: &str = "manifest.json";

/// Where a layout has its blobs.
const BLOBS: &str = "blobs";

/// The content of `oci-layout`.
#[derive(Deserialize)]
struct OciLayout {
    #[serde(rename = "imageLayoutVersion")]
    _version: String,
}

/// The layer of each tag of each repository: `repositories` of docker before 1.10.
type Repositories = BTreeMap<String, BTreeMap<String, String>>;

/// The format of an image; `None` for a root file system.
///
/// # Errors
/// `Usage` for an image in a format that cannot be imported.
pub fn of(packed: &PackedFiles) -> Result<Option<RootfsFormat>, Refusal> {
    let is_layout = parsed::<OciLayout>(packed, LAYOUT).is_some();
    // `docker save` writes both since version 25. As in podman, the layout counts.
    if (is_layout && packed.has(INDEX)) || has_index(packed) {
        return Ok(Some(RootfsFormat::Oci));
    }
    if has_manifest(packed) {
        return Ok(Some(RootfsFormat::Docker));
    }
    if is_layout {
        // Which is incomplete.
        return Ok(Some(RootfsFormat::Oci));
    }
    let version = packed.document("version").unwrap_or_default();
    if version.starts_with(b"Directory Transport Version:") {
        return Err(Refusal::usage("it is an image in skopeo's 'dir' format")
            .hint("convert it: skopeo copy dir:DIRECTORY oci-archive:FILE"));
    }
    let repositories: Repositories = parsed(packed, "repositories").unwrap_or_default();
    let mut layers = repositories.values().flat_map(BTreeMap::values);
    if layers.any(|layer| packed.has(&format!("{layer}/layer.tar"))) {
        return Err(Refusal::usage("it was saved by a version of docker before 1.10")
            .hint("load it with docker or podman, and save it again"));
    }
    if packed.has_directory(BLOBS) {
        return Err(Refusal::usage(format!("it is an incomplete image: it has no {INDEX}")).hint(
            "save the image again; '--from dir' or '--from tar' imports the files as they are",
        ));
    }
    Ok(None)
}

/// Whether there is an index of images, with one of the files that it names.
fn has_index(packed: &PackedFiles) -> bool {
    let index: Option<OciDocument> = parsed(packed, INDEX);
    let manifests = index.and_then(|index| index.manifests).unwrap_or_default();
    manifests.iter().any(|manifest| packed.has(&manifest.digest.blob()))
}

/// Whether there is a manifest of `docker save`, with one of the files that it names.
fn has_manifest(packed: &PackedFiles) -> bool {
    let images: Vec<DockerImage> = parsed(packed, MANIFEST).unwrap_or_default();
    images.iter().any(|image| {
        let mut named = image.layers.iter().flatten().chain([&image.config]);
        named.any(|name| packed.has(name))
    })
}

fn parsed<T: DeserializeOwned>(packed: &PackedFiles, name: &str) -> Option<T> {
    serde_json::from_slice(&packed.document(name).ok()?).ok()
}
