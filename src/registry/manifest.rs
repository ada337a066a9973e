//! A VM's manifest in its own directory, from which a lost registry can be rebuilt.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::host::atomic_file;
use crate::model::VmManifest;

/// Writes the manifest, and replaces an earlier one as a whole.
pub fn write_manifest(path: &Path, manifest: &VmManifest) -> Result<()> {
    let mut bytes = serde_json::to_vec_pretty(manifest).context("cannot serialize the manifest")?;
    bytes.push(b'\n');
    atomic_file::replace(path, &bytes).map(drop)
}

/// Removes what a command left that was killed while it wrote a manifest; with `dry_run`, only finds it.
/// The caller holds the VM's lock, as the writer of a manifest does.
pub fn sweep_manifest(path: &Path, dry_run: bool) -> Result<Option<PathBuf>> {
    let unfinished = atomic_file::temporary_of(path);
    if unfinished.symlink_metadata().is_err() {
        return Ok(None);
    }
    if !dry_run {
        fs::remove_file(&unfinished)
            .with_context(|| format!("cannot remove {}", unfinished.display()))?;
    }
    Ok(Some(unfinished))
}

/// Reads a manifest; `None` if there is none, or one that cannot be parsed.
pub fn read_manifest(path: &Path) -> Result<Option<VmManifest>> {
    match fs::read(path) {
        Ok(bytes) => Ok(serde_json::from_slice(&bytes).ok()),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
    }
}
