//! `template.json`: what a template is for, and the digests of its files.
//!
//! It contains a digest of itself, whose own digits count as zeros. So no byte can change unnoticed.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};

use crate::host::{clock, input, ownership};
use crate::image::digest::{self, DigestMethod};
use crate::image::{FileInfo, ImageInfo};
use crate::model::{Accelerator, BackendKind, ProfileName, VmManifest};

pub const INFO: &str = "template.json";
pub const MEMORY: &str = "memory";
pub const STATE: &str = "state";
pub const DISK: &str = "disk.img";

/// The files of a template and how their digests are taken.
pub const FILES: [(&str, DigestMethod); 3] =
    [(MEMORY, DigestMethod::NonZero), (STATE, DigestMethod::Whole), (DISK, DigestMethod::NonZero)];

/// An empty file, whose time of modification is when the template was last used.
const USED: &str = "used";

/// The form of `template.json`. Templates of another form are rebuilt.
const SCHEMA: u32 = 1;

/// In place of the seal while that is computed.
const UNSEALED: &str = "sha256:0000000000000000000000000000000000000000000000000000000000000000";

/// The content of `template.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TemplateInfo {
    pub schema: u32,
    pub name: String,
    pub profile: ProfileName,
    /// The id of the image that it booted, and the digest of that image's agent.
    pub image: String,
    pub agent: String,
    pub backend: BackendKind,
    pub accelerator: Accelerator,
    pub vcpu_count: u32,
    pub mem_mib: u32,
    /// The text of its [`super::TemplateShape`].
    pub shape: String,
    /// The version of the VMM that froze it.
    pub vmm_version: String,
    /// Unix seconds.
    pub made_at: f64,
    /// By file name.
    pub files: BTreeMap<String, FileInfo>,
    seal: String,
}

impl TemplateInfo {
    /// A description without files, of a template for VMs like this one.
    pub fn new(manifest: &VmManifest, image: &ImageInfo, shape: String) -> Self {
        let digest = digest::of_bytes(shape.as_bytes()).replace("sha256:", "");
        TemplateInfo {
            schema: SCHEMA,
            name: format!("{}-{}", manifest.profile, &digest[..12]),
            profile: manifest.profile.clone(),
            image: image.id(),
            agent: image.agent.digest.clone(),
            backend: manifest.backend,
            accelerator: manifest.accelerator,
            vcpu_count: manifest.vcpu_count,
            mem_mib: manifest.mem_mib,
            shape,
            vmm_version: String::new(),
            made_at: 0.0,
            files: BTreeMap::new(),
            seal: UNSEALED.to_owned(),
        }
    }

    /// Whether VMs of this image can start from it.
    pub fn is_of(&self, image: &ImageInfo) -> bool {
        self.profile == image.profile
            && self.image == image.id()
            && self.agent == image.agent.digest
    }

    /// The sealed text.
    pub fn to_text(&self) -> Result<String> {
        let unsealed = TemplateInfo { seal: UNSEALED.to_owned(), ..self.clone() };
        let text = serde_json::to_string_pretty(&unsealed)? + "\n";
        Ok(text.replacen(UNSEALED, &digest::of_bytes(text.as_bytes()), 1))
    }

    /// Parses a sealed text.
    pub(crate) fn from_text(text: &str) -> Result<TemplateInfo> {
        let info: TemplateInfo = serde_json::from_str(text)?;
        ensure!(info.schema == SCHEMA, "it has form {}, not {SCHEMA}", info.schema);
        let unsealed = text.replacen(&info.seal, UNSEALED, 1);
        if digest::of_bytes(unsealed.as_bytes()) != info.seal {
            bail!("it was changed");
        }
        Ok(info)
    }

    /// Reads the description of the template in `directory`; `None` if there is no template.
    ///
    /// # Errors
    /// The description cannot be read or parsed, or was changed. Another user could have written a file.
    pub fn read(directory: &Path) -> Result<Option<TemplateInfo>> {
        // QEMU before 8.2, as another user, opens the memory for writing.
        if !ownership::check_contents(directory, |name| name == MEMORY)? {
            return Ok(None);
        }
        let text = input::read_regular(&directory.join(INFO));
        let text = text.with_context(|| format!("cannot read {INFO}"))?;
        let info = Self::from_text(&String::from_utf8_lossy(&text));
        info.with_context(|| format!("{INFO} is not what was written")).map(Some)
    }
}

/// Records that the template in `directory` is used now.
pub fn mark_used(directory: &Path) -> Result<()> {
    let path = directory.join(USED);
    // With a mode, because the umask may let others write.
    let mut file = OpenOptions::new();
    let marked = file
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&path)
        .and_then(|file| file.set_modified(std::time::UNIX_EPOCH + clock::unix_time()));
    marked.with_context(|| format!("cannot mark {}", path.display()))
}

/// When the template in `directory` was last used, in Unix seconds; 0 if that is unknown.
pub fn last_used(directory: &Path) -> f64 {
    let about = fs::metadata(directory.join(USED));
    about.map_or(0.0, |about| about.mtime() as f64 + about.mtime_nsec() as f64 / 1e9)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::template::tests::image;

    #[test]
    fn no_byte_can_change_unnoticed() {
        let (manifest, image) = (VmManifest::sample(), image("debian-base", "sha256:4567"));
        let info = TemplateInfo::new(&manifest, &image, "backend qemu\nvcpus 1".into());
        let info = TemplateInfo { made_at: 1_795_500_000.25, ..info };
        let text = info.to_text().unwrap();
        let read = TemplateInfo::from_text(&text).unwrap();
        assert_eq!(TemplateInfo { seal: info.seal.clone(), ..read }, info);
        for at in 0..text.len() {
            for change in [1, 2, 0x20, 0x29] {
                let mut bytes = text.clone().into_bytes();
                bytes[at] ^= change;
                if let Ok(text) = String::from_utf8(bytes) {
                    assert!(TemplateInfo::from_text(&text).is_err(), "byte {at}: {text}");
                }
            }
        }
    }
}
