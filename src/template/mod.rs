//! Templates: VMs that were frozen when their agent was ready, so that others of the same shape can start
//! from there instead of booting.
//!
//! Each is a directory in `artifacts/templates`, named after its profile and its [`TemplateShape`]: the
//! guest's memory, the state of its devices, its disk, and `template.json`, which says what it is for and
//! has the digests of the three. Only [`TemplateStore`] changes them.

mod draft;
mod info;
mod shape;
mod store;
#[cfg(test)]
mod tests;

pub use draft::TemplateDraft;
pub use info::TemplateInfo;
pub use shape::TemplateShape;
pub use store::{ListedTemplate, LockedTemplate, TemplateClaim, TemplateStore};
