//! A VM's manifest in its own directory, from which a lost registry can be rebuilt.

use std::path::Path;

use anyhow::{Context, Result};

use crate::host::atomic_file;
use crate::host::input;
use crate::model::VmManifest;
use crate::sys::file_system::if_exists;

/// Writes the manifest, and replaces an earlier one as a whole.
pub fn write_manifest(path: &Path, manifest: &VmManifest) -> Result<()> {
    let mut bytes = serde_json::to_vec_pretty(manifest).context("cannot serialize the manifest")?;
    bytes.push(b'\n');
    atomic_file::replace(path, &bytes).map(drop)
}

/// Reads a manifest; `None` if there is none, or one that cannot be parsed.
pub fn read_manifest(path: &Path) -> Result<Option<VmManifest>> {
    let bytes = if_exists(input::read_regular(path));
    let bytes = bytes.with_context(|| format!("cannot read {}", path.display()))?;
    Ok(bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok()))
}
