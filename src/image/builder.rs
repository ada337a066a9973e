//! What makes the parts of an image: the one slow step, behind a trait so that the store's locking and
//! atomicity can be tested in milliseconds.

use std::path::Path;

use anyhow::Result;

use super::progress::ProgressSink;
use crate::model::DebianRecipe;

/// Phases of a whole build: the builder's, then the store's own.
pub const PHASES: usize = 4;

/// Makes kernels and file systems from recipes.
pub trait ImageBuilder: Send + Sync {
    /// Makes `vmlinux`, `modules.cpio`, `rootfs.ext4` and `disk.ext4` in `into`, an empty directory.
    /// `work` is another one, for anything temporary; the caller deletes it. Both are absolute.
    ///
    /// Reports phases 1 to `PHASES - 1`. Gives the kernel's release, as in `uname -r`.
    fn build(
        &self,
        recipe: &DebianRecipe,
        work: &Path,
        into: &Path,
        progress: &mut dyn ProgressSink,
    ) -> Result<String>;

    /// Deletes a directory that was built in, whoever owns the files in it.
    fn delete(&self, directory: &Path) -> Result<()>;
}
