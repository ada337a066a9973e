//! The secret of a state directory by which its processes are recognised.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::host::process_marks::MarkKey;
use crate::host::{atomic_file, input};
use crate::sys::file_system::if_exists;
use crate::sys::random;

/// The file with the secret.
pub fn file(state: &Path) -> PathBuf {
    state.join("marks.key")
}

/// The secret; `None` if there is none yet. A file of another length is taken for none: with a new secret,
/// processes that no record names are not found, but none is found that is not a VM's.
pub fn read(state: &Path) -> Result<Option<MarkKey>> {
    let path = file(state);
    let bytes = if_exists(input::read_regular(&path));
    let bytes = bytes.with_context(|| format!("cannot read {}", path.display()))?;
    Ok(bytes.and_then(|bytes| bytes.try_into().ok()))
}

/// Makes a new secret. The caller holds the registry's lock.
pub fn make(state: &Path) -> Result<()> {
    atomic_file::replace(&file(state), &random::bytes::<32>()?).map(drop)
}
