//! Indexes, manifests and configurations of the OCI image specification and of `docker save`. Unknown fields
//! are ignored, and most fields are optional.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::digest_reader::BlobDigest;
use crate::model::CommandDefaults;

/// The annotations by which tools name an image in a layout. The second may contain only a tag.
pub const REFERENCES: [&str; 2] = ["io.containerd.image.name", "org.opencontainers.image.ref.name"];

/// A reference to another document or to a layer.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BlobDescriptor {
    #[serde(default)]
    pub media_type: String,
    pub digest: BlobDigest,
    pub size: Option<u64>,
    pub platform: Option<ImagePlatform>,
    pub annotations: Option<BTreeMap<String, String>>,
}

impl BlobDescriptor {
    /// Its name in the layout.
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
    /// Whether VMs here can run it.
    pub fn is_ours(&self) -> bool {
        self.os == "linux" && self.architecture == "amd64"
    }
}

/// An index or a manifest: a descriptor may refer to either.
#[derive(Debug, Clone, Deserialize)]
pub struct OciDocument {
    /// In an index.
    pub manifests: Option<Vec<BlobDescriptor>>,
    /// In a manifest, as `layers`.
    pub config: Option<BlobDescriptor>,
    pub layers: Option<Vec<BlobDescriptor>>,
}

/// The configuration of an image.
#[derive(Debug, Clone, Deserialize)]
pub struct OciConfiguration {
    pub os: Option<String>,
    pub architecture: Option<String>,
    pub config: Option<OciExecution>,
    pub rootfs: Option<RootFs>,
}

#[derive(Debug, Clone, Deserialize)]
pub struct RootFs {
    /// Digests of the uncompressed layers, lowest first.
    pub diff_ids: Option<Vec<BlobDigest>>,
}

/// What containers of an image run.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct OciExecution {
    pub entrypoint: Option<Vec<String>>,
    pub cmd: Option<Vec<String>>,
    pub env: Option<Vec<String>>,
    pub user: Option<String>,
    pub working_dir: Option<String>,
}

/// One image in an archive of `docker save`.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct DockerImage {
    pub config: String,
    pub repo_tags: Option<Vec<String>>,
    pub layers: Option<Vec<String>>,
}

impl OciExecution {
    /// The defaults of a profile. Variables without a value are left out.
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
