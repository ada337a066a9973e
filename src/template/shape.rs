//! Which VMs can start from a template.

use crate::image::ImageInfo;
use crate::image::digest;
use crate::model::{Accelerator, BackendKind, ProfileName, VmManifest};

/// What a template and a VM that starts from it must have in common, as lines of text. Shapes are the same
/// if their texts are. The other fields are for the template's description.
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
    /// The shape of VMs like this one, which boot this image.
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

    /// The name of its template: the profile's and a part of a digest, so that it is unique.
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
