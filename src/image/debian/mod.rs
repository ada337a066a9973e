//! Builds images from Debian packages: one mmdebstrap run for the root file system and the kernel's
//! files, one mke2fs run for each file system. See docs/adr/0005-images.md.

mod recipe;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::builder::{ImageBuilder, PHASES};
use super::progress::ProgressSink;
use super::sandbox::{self, silent, watch};
use super::{file_systems, initrd, kernel, modules};
use crate::host::directory;
use crate::host::which::HostTool;
use crate::model::profile::is_mirror;
use crate::model::{DebianRecipe, Refusal, RefusalKind};

const MMDEBSTRAP: HostTool = HostTool { program: "mmdebstrap", package: "mmdebstrap" };
const DPKG_DEB: HostTool = HostTool { program: "dpkg-deb", package: "dpkg" };
const SH: HostTool = HostTool { program: "sh", package: "dash" };

const KERNEL_SCRIPT: &str = include_str!("kernel.sh");
const TIDY_SCRIPT: &str = include_str!("tidy.sh");

/// The programs that this user needs to build images.
pub fn tools() -> Vec<HostTool> {
    let mut tools = vec![MMDEBSTRAP, DPKG_DEB, file_systems::MKE2FS];
    tools.extend(sandbox::tools());
    tools
}

/// Builds images from Debian packages.
#[derive(Debug, Clone, Default)]
pub struct DebianBuilder {
    /// The mirror of recipes that name none; `None` is mmdebstrap's own default.
    pub mirror: Option<String>,
}

impl ImageBuilder for DebianBuilder {
    fn build(
        &self,
        recipe: &DebianRecipe,
        work: &Path,
        into: &Path,
        progress: &mut dyn ProgressSink,
    ) -> Result<String> {
        if let Some((_, problem)) = recipe.problem() {
            return Err(Refusal::new(RefusalKind::Usage, problem)
                .hint("correct the profile")
                .into());
        }
        if let Some(mirror) = self.mirror.as_ref().filter(|mirror| !is_mirror(mirror)) {
            let message = format!("{mirror:?} is not a mirror's address");
            return Err(Refusal::new(RefusalKind::Usage, message)
                .hint("correct MAYFLY_DEBIAN_MIRROR or debian_mirror in config.toml")
                .into());
        }
        for tool in [MMDEBSTRAP, file_systems::MKE2FS, DPKG_DEB] {
            tool.find()?;
        }
        let tree = work.join("tree");
        progress.phase("installing packages", 1, PHASES);
        self.install(recipe, work, &tree, progress)?;

        progress.phase("unpacking the kernel", 2, PHASES);
        let release = kernel_release(&tree)?;
        let vmlinuz = work.join("kernel/unpacked/boot").join(format!("vmlinuz-{release}"));
        write(&into.join("vmlinux"), &kernel::unpack(&read(&vmlinuz)?)?)?;
        let archive = modules_archive(&tree.join("usr/lib/modules").join(&release))?;
        write(&into.join("modules.cpio"), &archive)?;

        progress.phase("making file systems", 3, PHASES);
        tidy(&tree, progress)?;
        file_systems::make_root(&tree, &into.join("rootfs.ext4"), recipe.root_mib, progress)?;
        file_systems::make_disk(work, &into.join("disk.ext4"), recipe.disk_mib, progress)?;
        Ok(release)
    }

    fn delete(&self, directory: &Path) -> Result<()> {
        sandbox::delete(directory)
    }
}

impl DebianBuilder {
    fn install(
        &self,
        recipe: &DebianRecipe,
        work: &Path,
        tree: &Path,
        progress: &mut dyn ProgressSink,
    ) -> Result<()> {
        let temporary = work.join("tmp");
        directory::create_new(&temporary)?;
        directory::create_new(&work.join("kernel"))?;
        let script = work.join("kernel.sh");
        write(&script, KERNEL_SCRIPT.as_bytes())?;
        let run = sandbox::run_online(MMDEBSTRAP)?
            .env("TMPDIR", &temporary)
            .env("MAYFLY_KERNEL_SCRIPT", &script)
            .env("MAYFLY_KERNEL_DIR", work.join("kernel"))
            .env("MAYFLY_KERNEL_PACKAGE", &recipe.kernel)
            .current_dir(work)
            .args(recipe::mmdebstrap_options(recipe))
            .arg(r#"--customize-hook=sh "$MAYFLY_KERNEL_SCRIPT" "$1""#)
            .arg(&recipe.suite)
            .arg(tree)
            .args(recipe.mirror.as_ref().or(self.mirror.as_ref()));
        watch(run, work, "cannot install the packages", reported, progress)
    }
}

/// The kernel's release: the name of the only directory of modules.
fn kernel_release(tree: &Path) -> Result<String> {
    let releases = directory::names(&tree.join("usr/lib/modules"))?;
    match <[String; 1]>::try_from(releases) {
        Ok([release]) => Ok(release),
        Err(releases) => Err(Refusal::new(
            RefusalKind::Host,
            format!("the kernel package has modules for {} kernels, not for one", releases.len()),
        )
        .into()),
    }
}

fn modules_archive(base: &Path) -> Result<Vec<u8>> {
    let dep = fs::read_to_string(base.join("modules.dep")).context("cannot read modules.dep")?;
    // Without it, built-in modules count as missing, and the error names them.
    let builtin = fs::read_to_string(base.join("modules.builtin")).unwrap_or_default();
    let files = modules::load_order(&dep, &builtin, &modules::NEEDED)?;
    initrd::modules_archive(base, &files)
}

/// Removes what came from this host, and what no guest needs.
fn tidy(tree: &Path, progress: &mut dyn ProgressSink) -> Result<()> {
    let run = sandbox::run(SH)?.args(["-c", TIDY_SCRIPT, "tidy"]).arg(tree);
    watch(run, tree, "cannot tidy up the new system", silent, progress)
}

/// The lines of mmdebstrap's output that are reported.
fn reported(line: &str) -> Option<&str> {
    let text = line.strip_prefix("I: ")?;
    if text.starts_with("running --customize-hook") {
        return Some("fetching the kernel");
    }
    let of_interest = !text.starts_with("skipping") && !text.starts_with("success");
    of_interest.then(|| text.trim_end_matches('.'))
}

fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).with_context(|| format!("cannot read {}", path.display()))
}

fn write(path: &PathBuf, content: &[u8]) -> Result<()> {
    fs::write(path, content).with_context(|| format!("cannot write {}", path.display()))
}
