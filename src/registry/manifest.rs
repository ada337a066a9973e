//! A VM's own copy of what never changes about it, from which a lost registry can be rebuilt.

use std::fs;
use std::io::ErrorKind;
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

/// Reads a manifest back; `None` if there is none that makes sense.
///
/// Errors: it could not be read, which says nothing about what is in it.
pub fn read_manifest(path: &Path) -> Result<Option<Manifest>> {
    match fs::read(path) {
        Ok(bytes) => Ok(serde_json::from_slice(&bytes).ok()),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
    }
}
