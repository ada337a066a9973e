//! Finding out which image a reference means.

use anyhow::{Result, bail};

use super::access_error;
use super::blob_store::BlobStore;
use super::skopeo;
use crate::image::ProgressSink;
use crate::import::digest_reader::BlobDigest;
use crate::import::manifest::{BlobDescriptor, OciDocument};
use crate::import::select::for_us;
use crate::model::{ImageReference, Refusal};

/// The greatest depth of indexes in indexes.
const MAX_DEPTH: usize = 4;

/// The image that a reference means at this moment.
#[derive(Debug)]
pub struct ResolvedImage {
    pub reference: ImageReference,
    /// Of what the registry has under the reference.
    pub digest: BlobDigest,
    /// That, and what it leads to. The last is the manifest.
    pub documents: Vec<(BlobDigest, Vec<u8>)>,
    /// Configuration and layers.
    pub blobs: Vec<(BlobDigest, u64)>,
}

impl ResolvedImage {
    /// The digest of the manifest for VMs here.
    pub fn manifest(&self) -> &BlobDigest {
        self.documents.last().map_or(&self.digest, |(digest, _)| digest)
    }

    /// The digests of everything that is part of it.
    pub fn digests(&self) -> Vec<BlobDigest> {
        let documents = self.documents.iter().map(|(digest, _)| digest.clone());
        documents.chain(self.blobs.iter().map(|(digest, _)| digest.clone())).collect()
    }
}

/// Asks the registry what `reference` means, or `store` if that has all documents of a digest.
///
/// # Errors
/// `NotFound` if there is no such image; `Host` if the registry does not give it, or has it for other machines only;
/// `Usage` for what is no image; [`crate::host::tool::ToolInterrupted`].
pub fn resolve(
    reference: &ImageReference,
    store: &BlobStore,
    progress: &dyn ProgressSink,
) -> Result<ResolvedImage> {
    let cannot = || format!("cannot pull {reference}");
    let wanted = reference.digest().map(|digest| digest.parse().map_err(Refusal::usage));
    let mut wanted: Option<BlobDigest> = wanted.transpose()?;
    let mut documents: Vec<(BlobDigest, Vec<u8>)> = Vec::new();
    for _ in 0..MAX_DEPTH {
        let (digest, text) = document(reference, wanted.as_ref(), store, progress)?;
        let parsed: OciDocument = serde_json::from_slice(&text).map_err(|error| {
            Refusal::usage(format!("{}: its manifest cannot be parsed: {error}", cannot()))
        })?;
        documents.push((digest, text));
        if let Some(mut manifests) = parsed.manifests {
            manifests.retain(|one| !one.is_attestation());
            let ours = for_us(&manifests).map_err(|refusal| Refusal {
                message: format!("{}: {}", cannot(), refusal.message),
                hint: Some("choose another tag or image, one for linux/amd64".into()),
                ..refusal
            })?;
            wanted = Some(ours.digest);
            continue;
        }
        let (Some(config), Some(layers)) = (parsed.config, parsed.layers) else {
            let message = format!(
                "{}: the registry has it in a format before OCI and Docker 1.10, or it is no image",
                cannot()
            );
            bail!(Refusal::usage(message));
        };
        let mut blobs: Vec<(BlobDigest, u64)> = Vec::new();
        for BlobDescriptor { digest, size, .. } in [config].into_iter().chain(layers) {
            let Some(size) = size else {
                bail!(Refusal::usage(format!(
                    "{}: its manifest does not say how large it is",
                    cannot()
                )));
            };
            if !blobs.iter().any(|(known, _)| *known == digest) {
                blobs.push((digest, size));
            }
        }
        let (reference, digest) = (reference.clone(), documents[0].0.clone());
        return Ok(ResolvedImage { reference, digest, documents, blobs });
    }
    bail!(Refusal::usage(format!("{}: its indexes are nested too deeply", cannot())))
}

/// The document with the digest `wanted`, or the one that the reference names now.
fn document(
    reference: &ImageReference,
    wanted: Option<&BlobDigest>,
    store: &BlobStore,
    progress: &dyn ProgressSink,
) -> Result<(BlobDigest, Vec<u8>)> {
    if let Some(wanted) = wanted
        && let Some(text) = store.document(wanted)
    {
        return Ok((wanted.clone(), text));
    }
    let named = match wanted {
        Some(wanted) => reference.with_digest(wanted),
        None => reference.clone(),
    };
    let text = skopeo::inspect(&named)?
        .read(&|| progress.cancelled())
        .map_err(|error| access_error::explain(error, reference))?;
    match wanted {
        Some(wanted) => {
            wanted.check(&text, "what the registry sent").map(|()| (wanted.clone(), text))
        }
        None => Ok((BlobDigest::sha256(&text), text)),
    }
}
