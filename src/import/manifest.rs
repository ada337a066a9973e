//! Indexes, manifests and configurations of the OCI image specification and of `docker save`. Unknown fields
//! are ignored, and most fields are optional.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::digest_reader::BlobDigest;
use crate::model::CommandDefaults;

/// The annotations by which tools name an image in a layout. The second may contain only a tag.
pub const REFERENCES: [&str; 2] = ["io.containerd.image.name", "org.opencontainers.image.ref.name"];

/// The annotation of an attestation, by which buildx names the kind of what it refers to.
const ATTESTED: &str = "vnd.docker.reference.type";

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

    /// Whether one of its names in the layout is this one.
    pub fn is_called(&self, name: &str) -> bool {
        let annotations = self.annotations.iter().flatten();
        let mut names = annotations.filter(|(key, _)| REFERENCES.contains(&key.as_str()));
        names.any(|(_, value)| value == name)
    }

    /// Whether it is a statement about an image, such as how it was built, and no image itself.
    pub fn is_attestation(&self) -> bool {
        self.platform.as_ref().is_some_and(|platform| platform.os == "unknown")
            || self.annotations.iter().flatten().any(|(key, _)| key == ATTESTED)
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
    pub entrypoint: Option<ConfiguredWords>,
    pub cmd: Option<ConfiguredWords>,
    pub env: Option<Vec<String>>,
    pub user: Option<String>,
    pub working_dir: Option<String>,
}

/// Words of a command. Old versions of Docker wrote a single one as a string.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
pub enum ConfiguredWords {
    List(Vec<String>),
    One(String),
}

impl ConfiguredWords {
    /// The words; none if the only one is empty, by which an image removes those of the image it is made from.
    fn unless_blank(self) -> Vec<String> {
        let words = match self {
            ConfiguredWords::List(words) => words,
            ConfiguredWords::One(word) => vec![word],
        };
        if words == [""] { Vec::new() } else { words }
    }
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
        let entrypoint = self.entrypoint.map(ConfiguredWords::unless_blank).unwrap_or_default();
        // After an entrypoint, an empty word is an argument.
        let cmd = match self.cmd {
            Some(ConfiguredWords::List(words)) if !entrypoint.is_empty() => words,
            cmd => cmd.map(ConfiguredWords::unless_blank).unwrap_or_default(),
        };
        let env = self.env.unwrap_or_default();
        let variables = env.iter().filter_map(|setting| setting.split_once('='));
        CommandDefaults {
            cmd,
            entrypoint,
            env: variables
                .filter(|(name, _)| !name.is_empty())
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .collect(),
            user: self.user.filter(|user| !user.is_empty()),
            workdir: self.working_dir.filter(|directory| !directory.is_empty()),
        }
    }
}
