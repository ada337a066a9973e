//! `image.json`: what an image is made of, and the digests of its files.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use super::digest::{self, DigestMethod};
use crate::host::seal::unseal;
use crate::host::{input, ownership};
use crate::model::profile::IMPORTED_PROFILE;
use crate::model::{ImageRecipe, ProfileName, Refusal, RefusalKind};
use crate::sys::file_system::if_exists;

/// The form of `image.json`. Images of another form are rebuilt.
pub const SCHEMA: u32 = 1;

pub const INFO: &str = "image.json";
pub const KERNEL: &str = "vmlinux";
pub const INITRD: &str = "initrd.img";
pub const ROOTFS: &str = "rootfs.ext4";
pub const DISK: &str = "disk.ext4";
/// The part of the initrd that is the same for every agent; no VM opens it.
pub const MODULES: &str = "modules.cpio";

/// The files of an image, how their digests are taken, and their permissions.
///
/// Only the owner can enter their directory. What a VMM opens itself is readable for all users, because the
/// VMM may run as another one and reach the file through an inherited descriptor.
pub const FILES: [(&str, DigestMethod, u32); 5] = [
    (KERNEL, DigestMethod::Whole, 0o644),
    (INITRD, DigestMethod::Whole, 0o644),
    (ROOTFS, DigestMethod::NonZero, 0o444),
    (DISK, DigestMethod::NonZero, 0o600),
    (MODULES, DigestMethod::Whole, 0o600),
];

/// The content of `image.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImageInfo {
    pub schema: u32,
    pub profile: ProfileName,
    pub recipe: ImageRecipe,
    /// `None` unless it was pulled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pulled: Option<PulledContent>,
    /// As in `uname -r` in the guest.
    pub kernel_release: String,
    /// Unix seconds.
    pub built_at: f64,
    pub agent: InitrdAgent,
    /// By file name.
    pub files: BTreeMap<String, FileInfo>,
}

/// What a reference meant when an image was pulled.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PulledContent {
    /// Of the index or manifest that the registry has under the reference, as docker shows it.
    pub digest: String,
    /// The digests of everything that was fetched.
    pub blobs: Vec<String>,
}

/// The agent in an initrd.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InitrdAgent {
    /// Its version, which is that of the mayfly that packed it: they are built together.
    pub version: String,
    pub digest: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileInfo {
    /// Bytes, as `ls` shows them; the file may be sparse.
    pub size: u64,
    /// See [`super::digest`].
    pub digest: String,
}

impl ImageInfo {
    /// Identifies kernel, root file system and empty disk, but not the agent: 64 hexadecimal digits. VMs of
    /// images with different ids must not share disks or templates.
    pub fn id(&self) -> String {
        let parts: String = [KERNEL, ROOTFS, DISK]
            .iter()
            .map(|&name| {
                let digest = self.files.get(name).map_or("", |file| file.digest.as_str());
                format!("{name} {digest}\n")
            })
            .collect();
        digest::of_bytes(parts.as_bytes()).replace("sha256:", "")
    }
}

/// Reads `image.json` of the image in `directory`; `None` if there is none, or one in another form.
///
/// # Errors
/// `Host` if it does not parse or match its seal: a damaged image is not a missing one. Also `Host` if another user could have
/// written one of the image's files.
pub fn read(directory: &Path) -> Result<Option<ImageInfo>> {
    if !ownership::check_contents(directory, |_| false)? {
        return Ok(None);
    }
    let path = directory.join(INFO);
    let text = if_exists(input::read_regular(&path));
    let text = text.with_context(|| format!("cannot read {}", path.display()))?;
    let Some(text) = text else { return Ok(None) };
    let damaged = |why: String| damaged(directory, &format!("{} {why}", path.display()));
    let unparsed = |error: serde_json::Error| damaged(format!("does not parse: {error}"));
    // Older images have no seal.
    let unsealed = unseal(&text).map_err(|_| damaged("does not match its seal".into()))?;
    let value: serde_json::Value =
        serde_json::from_slice(unsealed.as_deref().unwrap_or(&text)).map_err(unparsed)?;
    match value.get("schema").and_then(serde_json::Value::as_u64) {
        Some(schema) if schema != u64::from(SCHEMA) => Ok(None),
        _ => Ok(Some(serde_json::from_value(value).map_err(unparsed)?)),
    }
}

/// The refusal of a damaged image, with a remedy.
pub fn damaged(directory: &Path, why: &str) -> Refusal {
    let profile = directory.file_name().unwrap_or_default().to_string_lossy();
    Refusal::new(RefusalKind::Host, format!("the image of {profile} is damaged: {why}"))
        .hint(remedy(directory))
}

/// How the image in `directory` is made again.
pub fn remedy(directory: &Path) -> String {
    let profile = directory.file_name().unwrap_or_default().to_string_lossy();
    // The table [pulled] or [imported] is the file's first.
    let of_others = input::read_regular(&directory.join(IMPORTED_PROFILE)).ok();
    let is_pulled = |text: &Vec<u8>| text.split(|&byte| byte == b'\n').any(|l| l == b"[pulled]");
    if of_others.as_ref().is_some_and(|text| !is_pulled(text)) {
        format!("import it again: mayfly image import SOURCE {profile}")
    } else {
        format!("rebuild it: mayfly image build --force {profile}")
    }
}
