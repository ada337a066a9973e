//! What a template fits.

use crate::image::ImageInfo;
use crate::image::digest;
use crate::model::{Accelerator, BackendKind, ProfileName, VmManifest};

/// Everything that a VM and a template of it must have in common, as lines of text. Two shapes are the
/// same where their texts are. The rest is there for people, and to tell which image it is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TemplateShape {
    pub(super) profile: ProfileName,
    pub(super) image: String,
    pub(super) agent: String,
    pub(super) backend: BackendKind,
    pub(super) accelerator: Accelerator,
    pub(super) vcpu_count: u32,
    pub(super) mem_mib: u32,
    text: String,
}

impl TemplateShape {
    /// The shape of VMs like this one, which boot this image. The text has everything that counts.
    pub fn new(manifest: &VmManifest, image: &ImageInfo, text: String) -> TemplateShape {
        TemplateShape {
            profile: manifest.profile.clone(),
            image: image.id(),
            agent: image.agent.digest.clone(),
            backend: manifest.backend,
            accelerator: manifest.accelerator,
            vcpu_count: manifest.vcpu_count,
            mem_mib: manifest.mem_mib,
            text,
        }
    }

    pub fn text(&self) -> &str {
        &self.text
    }

    /// The name of its template: the profile's, and enough of a digest that no two are the same.
    pub fn name(&self) -> String {
        let digest = digest::of_bytes(self.text.as_bytes());
        let digits = digest.rsplit(':').next().unwrap_or_default();
        format!("{}-{}", self.profile, &digits[..12])
    }
}

#[cfg(test)]
pub(super) fn example(text: &str) -> TemplateShape {
    TemplateShape {
        profile: "debian-base".parse().unwrap(),
        image: "0123".into(),
        agent: "sha256:4567".into(),
        backend: BackendKind::Qemu,
        accelerator: Accelerator::Tcg,
        vcpu_count: 1,
        mem_mib: 256,
        text: text.to_owned(),
    }
}
