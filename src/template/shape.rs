//! Which VMs can start from a template.

use super::info::TemplateInfo;
use crate::image::ImageInfo;
use crate::model::VmManifest;

/// What a template and a VM that starts from it must have in common, as lines of text. Shapes are the same
/// if their texts are.
#[derive(Debug, Clone, PartialEq)]
pub struct TemplateShape {
    /// Describes a template of this shape, which has no files yet.
    pub(super) description: TemplateInfo,
}

impl TemplateShape {
    /// The shape of VMs like this one, which boot this image.
    pub fn new(manifest: &VmManifest, image: &ImageInfo, text: String) -> TemplateShape {
        TemplateShape { description: TemplateInfo::new(manifest, image, text) }
    }

    pub fn text(&self) -> &str {
        &self.description.shape
    }

    /// The name of its template: the profile's and a part of a digest, so that it is unique.
    pub fn name(&self) -> &str {
        &self.description.name
    }
}
