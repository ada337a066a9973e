//! What images say of themselves, in the words of the OCI image specification and of `docker save`.
//! Unknown fields are others' business; those that are missing may be.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::digest_reader::BlobDigest;
use crate::model::CommandDefaults;

/// The annotation by which tools name an image in a layout, and those of who took that for a tag only.
pub const REFERENCES: [&str; 2] = ["io.containerd.image.name", "org.opencontainers.image.ref.name"];

/// Points to another document or to a layer.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BlobDescriptor {
    #[serde(default)]
    pub media_type: String,
    pub digest: BlobDigest,
    #[serde(default)]
    pub size: Option<u64>,
    #[serde(default)]
    pub platform: Option<ImagePlatform>,
    #[serde(default)]
    pub annotations: Option<BTreeMap<String, String>>,
}

impl BlobDescriptor {
    /// What the layout calls it.
    pub fn reference(&self) -> Option<&str> {
        let annotations = self.annotations.as_ref()?;
        REFERENCES.iter().find_map(|name| annotations.get(*name)).map(String::as_str)
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct ImagePlatform {
    #[serde(default)]
    pub os: String,
    #[serde(default)]
    pub architecture: String,
}

impl std::fmt::Display for ImagePlatform {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)
    }
}

impl ImagePlatform {
    /// Whether a VM here can run it.
    pub fn is_ours(&self) -> bool {
        self.os == "linux" && self.architecture == "amd64"
    }
}

/// An index or a manifest, whichever it is: both are found behind the same kind of pointer.
#[derive(Debug, Clone, Deserialize)]
pub struct OciDocument {
    /// Of an index.
    #[serde(default)]
    pub manifests: Option<Vec<BlobDescriptor>>,
    /// Of a manifest, as are the layers.
    #[serde(default)]
    pub config: Option<BlobDescriptor>,
    #[serde(default)]
    pub layers: Option<Vec<BlobDescriptor>>,
}

/// An image's configuration.
#[derive(Debug, Clone, Deserialize)]
pub struct OciConfiguration {
    #[serde(default)]
    pub os: Option<String>,
    #[serde(default)]
    pub architecture: Option<String>,
    #[serde(default)]
    pub config: Option<OciExecution>,
    #[serde(default)]
    pub rootfs: Option<RootFs>,
}

#[derive(Debug, Clone, Deserialize)]
pub struct RootFs {
    /// Digests of the layers, unpacked, lowest first.
    #[serde(default)]
    pub diff_ids: Option<Vec<BlobDigest>>,
}

/// What containers of an image run, and how.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct OciExecution {
    #[serde(default)]
    pub entrypoint: Option<Vec<String>>,
    #[serde(default)]
    pub cmd: Option<Vec<String>>,
    #[serde(default)]
    pub env: Option<Vec<String>>,
    #[serde(default)]
    pub user: Option<String>,
    #[serde(default)]
    pub working_dir: Option<String>,
}

/// One image in an archive of `docker save`.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct DockerImage {
    pub config: String,
    #[serde(default)]
    pub repo_tags: Option<Vec<String>>,
    #[serde(default)]
    pub layers: Option<Vec<String>>,
}

impl OciExecution {
    /// The same as defaults of a profile. Variables without a value are left out, as they say nothing.
    pub fn defaults(self) -> CommandDefaults {
        let env = self.env.unwrap_or_default();
        let variables = env.iter().filter_map(|setting| setting.split_once('='));
        CommandDefaults {
            entrypoint: self.entrypoint.unwrap_or_default(),
            cmd: self.cmd.unwrap_or_default(),
            env: variables
                .filter(|(name, _)| !name.is_empty())
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .collect(),
            user: self.user.filter(|user| !user.is_empty()),
            workdir: self.working_dir.filter(|directory| !directory.is_empty()),
        }
    }
}
