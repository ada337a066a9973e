//! Making images of root file systems that other programs packed: a directory, a tar archive, or an image of
//! the Open Container Initiative. See docs/adr/0019-imported-images.md.
//!
//! ```text
//! source ─▶ plan ─────────────▶ tree (in the sandbox) ─▶ rootfs.ext4
//!           which image, which   layers one after the
//!           layers, what to run  other, then fixups
//! ```

mod attributes;
pub(crate) mod blobs;
pub(crate) mod budget;
mod cancellable;
mod copy_dir;
pub(crate) mod digest_reader;
mod elf;
mod fixups;
pub(crate) mod form;
mod late_times;
pub(crate) mod layer;
pub(crate) mod manifest;
mod path;
mod progress;
pub(crate) mod rootfs;
pub(crate) mod select;
mod source;
#[cfg(test)]
mod tests;
mod unpack;

use std::fs::{self, File, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

pub use budget::UnpackBounds;
pub use source::{ImportPlan, ImportSource, NamedSource};
pub use unpack::{ARGUMENT, serve};

use crate::host::confinement::FileReach;
use crate::host::{directory, sparse};
use crate::image::sandbox::{self, watch};
use crate::image::{
    DISK, FileSystemSize, KERNEL, LockedImage, MODULES, PHASES, ProgressSink, ROOTFS, make_disk,
    make_root_for,
};
use crate::model::{CommandDefaults, RootfsFormat};
use late_times::DEBUGFS;
use unpack::{UnpackOrder, UnpackReport, UnpackResult, UnpackStep};

/// In its error for a directory that does not exist.
const NOT_FOUND: &str = "File not found by ext2_lookup";

/// What to import, and how.
#[derive(Debug)]
pub struct ImageImport<'a> {
    pub named: NamedSource,
    pub source: ImportSource,
    /// The image whose kernel is used.
    pub kernel: &'a LockedImage,
    /// MiB of each VM's own disk.
    pub disk_mib: u32,
}

/// What was imported.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImportResult {
    pub kernel_release: String,
    pub form: RootfsFormat,
    /// The name of the image in the archive.
    pub reference: Option<String>,
    pub digest: Option<String>,
    pub command: CommandDefaults,
}

/// Makes the parts of an image in `into`. Both directories are absolute.
///
/// # Errors
/// Those of [`NamedSource::open`]; `Host` if there is no room or a program is missing; and
/// [`crate::host::tool::ToolInterrupted`].
pub fn make(
    import: ImageImport,
    work: &Path,
    into: &Path,
    progress: &mut dyn ProgressSink,
) -> Result<ImportResult> {
    let ImageImport { named, source, kernel, disk_mib } = import;
    let bounds = named.bounds;
    let plan = named.prepare(source, work, progress)?;

    progress.phase("unpacking files", 2, PHASES);
    let tree = work.join(unpack::TREE);
    directory::create_new(&tree)?;
    // An archive may not say which mode its root has.
    fs::set_permissions(&tree, Permissions::from_mode(0o755))
        .context("cannot set a directory's mode")?;
    let step =
        UnpackStep::Unpack { contents: plan.contents, workdir: plan.command.workdir.clone() };
    let mut done = carry_out(UnpackOrder { step, bounds }, plan.file, work, progress)
        .with_context(|| format!("cannot import {}", named.shown()))?;
    if done.devices > 0 {
        progress.note(&format!("left out {} device files; a VM has its own", done.devices));
    }
    if !done.lost.is_empty() {
        progress.note(&format!("lost extended attributes: {}", done.lost.join(", ")));
    }
    if done.loads_modules
        && let Some(modules) = modules_of(kernel, work, progress)?
    {
        let step = UnpackStep::Add { at: PathBuf::from(fixups::MODULES) };
        done = carry_out(
            UnpackOrder { step, bounds: UnpackBounds::default() },
            modules,
            work,
            progress,
        )?;
    }

    progress.phase("making file systems", 3, PHASES);
    let room = FileSystemSize { bytes: done.extent.bytes, inodes: done.extent.inodes };
    let root = into.join(ROOTFS);
    make_root_for(&tree, &root, room, progress)?;
    late_times::set(&work.join(unpack::LATE_TIMES), work, into, &root, progress)?;
    make_disk(work, &into.join(DISK), disk_mib, progress)?;
    for name in [KERNEL, MODULES] {
        share(&kernel.dir().join(name), &into.join(name))?;
    }
    Ok(ImportResult {
        kernel_release: kernel.info().kernel_release.clone(),
        form: plan.form,
        reference: plan.reference,
        digest: plan.digest,
        command: plan.command,
    })
}

/// Carries out an order in the sandbox, in `work`.
fn carry_out(
    order: UnpackOrder,
    source: File,
    work: &Path,
    progress: &mut dyn ProgressSink,
) -> Result<UnpackResult> {
    fs::write(work.join(unpack::ORDER), serde_json::to_vec(&order)?)
        .context("cannot write the order")?;
    let run = sandbox::run_ourselves()?.arg(ARGUMENT).stdin(source).current_dir(work);
    watch(run, work, "cannot unpack the files", progress::shown, progress)?;
    let report = fs::read(work.join(unpack::REPORT)).context("cannot read the report")?;
    match serde_json::from_slice(&report).context("cannot parse the report")? {
        UnpackReport::Done(done) => Ok(done),
        UnpackReport::Refused(refusal) => Err(refusal.into()),
    }
}

/// The modules of a kernel, from its image; `None` if it has none.
fn modules_of(
    kernel: &LockedImage,
    work: &Path,
    progress: &mut dyn ProgressSink,
) -> Result<Option<File>> {
    let release = &kernel.info().kernel_release;
    let taken = work.join("modules");
    for below in ["usr/lib/modules", fixups::MODULES] {
        directory::create_new(&taken)?;
        // In the guest it is /lib/modules, where every user may look for modules.
        fs::set_permissions(&taken, Permissions::from_mode(0o755))
            .context("cannot set a directory's mode")?;
        // debugfs always exits with 0, so its output is checked: an error may leave a part of the modules.
        let run = sandbox::run_confined(DEBUGFS, FileReach::new(&[kernel.dir()], &[work]))?
            .current_dir(work)
            .arg("-R")
            .arg(format!("rdump \"/{below}/{release}\" modules"))
            .arg(kernel.boot_files().rootfs);
        let mut wrong = None;
        run.watch(
            &mut |line| {
                let is_harmless = line.starts_with("debugfs ") || line.contains(NOT_FOUND);
                wrong = wrong.take().or_else(|| (!is_harmless).then(|| line.to_owned()));
            },
            &|| progress.cancelled(),
        )?;
        if let Some(line) = wrong {
            bail!("cannot copy the kernel's modules: {line}");
        }
        if taken.join(release).join("modules.dep").exists() {
            return Ok(Some(File::open(&taken).context("cannot open the modules")?));
        }
        sandbox::delete(&taken)?;
    }
    Ok(None)
}

/// Links `to` to `from`, or copies it if that is impossible. Neither is ever written to: images are replaced.
fn share(from: &Path, to: &Path) -> Result<()> {
    match fs::hard_link(from, to) {
        Ok(()) => Ok(()),
        Err(_) => sparse::clone_file(from, to),
    }
}
