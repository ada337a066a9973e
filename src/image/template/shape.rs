//! What a template fits.

use crate::image::digest;

/// Everything that a VM and a template of it must have in common, as lines of text. Two shapes are the
/// same where their texts are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shape {
    profile: String,
    text: String,
}

impl Shape {
    /// A shape of VMs of this profile. The text has everything that counts, the profile aside, which is
    /// only there for people.
    pub fn new(profile: &str, text: String) -> Shape {
        Shape { profile: profile.to_owned(), text }
    }

    pub fn profile(&self) -> &str {
        &self.profile
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
