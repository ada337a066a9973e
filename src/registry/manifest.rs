//! A VM's manifest in its own directory, from which a lost registry can be rebuilt.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use anyhow::{Context, Result};

use crate::host::atomic_file;
use crate::model::VmManifest;

/// Writes the manifest, and replaces an earlier one as a whole.
pub fn write_manifest(path: &Path, manifest: &VmManifest) -> Result<()> {
    let mut bytes = serde_json::to_vec_pretty(manifest).context("cannot serialize the manifest")?;
    bytes.push(b'\n');
    atomic_file::replace(path, &bytes).map(drop)
}

/// Reads a manifest; `None` if there is none, or one that cannot be parsed.
pub fn read_manifest(path: &Path) -> Result<Option<VmManifest>> {
    match fs::read(path) {
        Ok(bytes) => Ok(serde_json::from_slice(&bytes).ok()),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
    }
}
