//! What makes the parts of an image: the one slow step, behind a trait so that the store's locking and
//! atomicity can be tested in milliseconds.

use std::path::Path;

use anyhow::Result;

use super::import::{self, Import};
use super::progress::Progress;
use crate::model::{CommandDefaults, DebianRecipe, Form};

/// Phases of a whole build: the builder's, then the store's own.
pub const PHASES: usize = 4;

/// Makes kernels and file systems from recipes.
pub trait Builder: Send + Sync {
    /// Makes `vmlinux`, `modules.cpio`, `rootfs.ext4` and `disk.ext4` in `into`, an empty directory.
    /// `work` is another one, for anything temporary; the caller deletes it. Both are absolute.
    ///
    /// Reports phases 1 to `PHASES - 1`. Gives the kernel's release, as in `uname -r`.
    fn build(
        &self,
        recipe: &DebianRecipe,
        work: &Path,
        into: &Path,
        progress: &mut dyn Progress,
    ) -> Result<String>;

    /// Makes the same files of what was packed elsewhere, with the kernel and its modules of an image
    /// that is there.
    fn import(
        &self,
        import: Import,
        work: &Path,
        into: &Path,
        progress: &mut dyn Progress,
    ) -> Result<Imported> {
        import::make(import, work, into, progress)
    }

    /// Deletes a directory that `build` or `import` worked in, whoever the files in it belong to.
    fn delete(&self, directory: &Path) -> Result<()>;
}

/// What was imported.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Imported {
    pub kernel_release: String,
    pub form: Form,
    /// What the archive calls the image.
    pub reference: Option<String>,
    pub digest: Option<String>,
    pub command: CommandDefaults,
}
