//! A VM's own copy of what never changes about it, from which a lost registry can be rebuilt.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use crate::host::durable;
use crate::model::Manifest;

/// Writes the manifest; once, when the VM is created.
pub fn write_manifest(path: &Path, manifest: &Manifest) -> Result<()> {
    let mut bytes = serde_json::to_vec_pretty(manifest).context("cannot serialize the manifest")?;
    bytes.push(b'\n');
    durable::replace(path, &bytes).map(drop)
}

/// Reads a manifest back.
pub fn read_manifest(path: &Path) -> Result<Manifest> {
    let bytes = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    serde_json::from_slice(&bytes).with_context(|| format!("{} is damaged", path.display()))
}
