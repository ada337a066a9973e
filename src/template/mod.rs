//! Templates: VMs that were frozen when their agent was ready, so that others of the same shape can go
//! on from there instead of booting.
//!
//! Each is a directory in `artifacts/templates`, named after its profile and its [`Shape`]: the guest's
//! memory, the state of its devices, its disk, and `template.json`, which says what it is for and has the
//! digests of the three. [`Templates`] gives them out and is the only one to change them.

mod draft;
mod info;
mod shape;
mod store;
#[cfg(test)]
mod tests;

pub use draft::Draft;
pub use info::TemplateInfo;
pub use shape::Shape;
pub use store::{Claim, Listed, Template, Templates};
