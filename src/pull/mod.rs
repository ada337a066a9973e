//! Fetching container images from registries: skopeo downloads, and mayfly decides what, checks it and keeps it. See
//! docs/adr/0023-registries.md.
//!
//! ```text
//! reference ─▶ documents: index, manifest ─▶ layout in the build directory ─▶ import
//!                   │                              ▲      ▲
//!                   └── what is there already ── blobs   skopeo, for what is missing
//! ```

mod access_error;
mod blob_store;
mod download;
mod resolve;
mod skopeo;

pub use blob_store::{BlobStore, StoredBlob};
pub use download::fetch;
pub use resolve::{ResolvedImage, resolve};
pub use skopeo::SKOPEO;
