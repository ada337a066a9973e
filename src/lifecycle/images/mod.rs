//! Images and templates, with regard to the VMs that need them.

mod build;
mod import;
mod provide;
mod prune;
mod pull;
pub mod templates;
mod users;

pub use build::{build_image, remove_image};
pub use import::{ImportRequest, import_image};
pub use provide::{ImageWish, PullPolicy, provide_image};
pub use prune::{PruneReport, prune_images};
pub use pull::{PullOutcome, PullRequest, pull_image};
pub use templates::{list_templates, remove_template};
