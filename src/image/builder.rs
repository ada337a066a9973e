//! What makes the parts of an image. A trait, so that the store's locking and atomicity can be tested
//! without the minute that a build takes.

use std::path::Path;

use anyhow::Result;

use super::info::PulledContent;
use super::progress::ProgressSink;
use crate::model::{DebianRecipe, ImageRecipe};

/// Phases of a whole build: the builder's, then one of the store.
pub const PHASES: usize = 4;

/// What an image is made of, once its files are there.
#[derive(Debug)]
pub struct ImageParts {
    /// As in `uname -r`.
    pub kernel_release: String,
    pub recipe: ImageRecipe,
    /// `None` unless it was pulled.
    pub pulled: Option<PulledContent>,
}

/// Makes kernels and file systems from recipes.
pub trait ImageBuilder: Send + Sync {
    /// Makes `vmlinux`, `modules.cpio`, `rootfs.ext4` and `disk.ext4` in `into`, an empty directory.
    /// `work` is another one for temporary files; the caller deletes it. Both paths are absolute.
    ///
    /// Reports phases 1 to `PHASES - 1`. Returns the kernel's release, as in `uname -r`.
    fn build(
        &self,
        recipe: &DebianRecipe,
        work: &Path,
        into: &Path,
        progress: &mut dyn ProgressSink,
    ) -> Result<String>;

    /// Deletes a directory that was built in, although other users may own files in it.
    fn delete(&self, directory: &Path) -> Result<()>;
}
