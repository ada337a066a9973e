//! Images and templates, with regard to the VMs that need them.

mod build;
mod import;
mod prune;
pub mod templates;

pub use build::{build_image, remove_image};
pub use import::{ImportRequest, import_image};
pub use prune::{PruneReport, prune_images};
pub use templates::{list_templates, remove_template};
