//! Makes file systems of directories, with mke2fs.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use anyhow::{Context, Result};

use super::progress::ProgressSink;
use super::sandbox::{self, silent, watch};
use crate::host::confinement::FileReach;
use crate::host::directory;
use crate::host::tool::ToolRun;
use crate::host::which::HostTool;

pub const MKE2FS: HostTool = HostTool { program: "mke2fs", package: "e2fsprogs" };

/// MiB of the journal on each VM's disk: the least that mke2fs accepts (1,024 blocks of 4 KiB).
const JOURNAL_MIB: &str = "size=4";

/// What a file system must hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileSystemSize {
    /// Bytes in whole blocks of 4 KiB.
    pub bytes: u64,
    pub inodes: u64,
}

impl FileSystemSize {
    /// MiB that are enough: for the content, 5 % more for extents, 512 bytes for each inode and its name, and
    /// 64 MiB for the file system itself.
    fn mib(self) -> u64 {
        ((self.bytes + self.bytes / 20 + self.inodes * 512) >> 20) + 64
    }
}

/// The read-only root: no journal, because nothing is ever written to it.
pub fn make_root(
    tree: &Path,
    path: &Path,
    mib: u32,
    progress: &mut dyn ProgressSink,
) -> Result<()> {
    make_read_only(tree, path, u64::from(mib), &[], progress)
}

/// The read-only root, just large enough for `room`.
pub fn make_root_for(
    tree: &Path,
    path: &Path,
    room: FileSystemSize,
    progress: &mut dyn ProgressSink,
) -> Result<()> {
    // Without these options, mke2fs guesses for small file systems or average files.
    let inodes = room.inodes + room.inodes / 10 + 256;
    let options = ["-b", "4096", "-I", "256", "-N", &inodes.to_string()];
    make_read_only(tree, path, room.mib(), &options, progress)
}

/// A run that makes the file at `path` of the files in `tree`.
fn mke2fs(tree: &Path, path: &Path) -> Result<ToolRun> {
    let into = path.parent().context("a file has a directory")?;
    sandbox::run_confined(MKE2FS, FileReach::new(&[tree], &[into]))
}

fn make_read_only(
    tree: &Path,
    path: &Path,
    mib: u64,
    options: &[&str],
    progress: &mut dyn ProgressSink,
) -> Result<()> {
    let run = mke2fs(tree, path)?
        .args(["-q", "-F", "-t", "ext4", "-L", "mayfly-root", "-m", "0"])
        .args(["-O", "^has_journal,^resize_inode"])
        .args(options)
        .args(["-E", "nodiscard,assume_storage_prezeroed=1", "-d"])
        .arg(tree)
        .arg(path)
        .arg(format!("{mib}M"));
    watch(run, path, "cannot make the root file system", silent, progress)
}

/// The initial content of every VM's disk: the two directories of an overlay. A new file is all zeros, so
/// neither mke2fs nor the guest need write any.
pub fn make_disk(
    work: &Path,
    path: &Path,
    mib: u32,
    progress: &mut dyn ProgressSink,
) -> Result<()> {
    let skeleton = work.join("disk");
    directory::create_new(&skeleton)?;
    for name in ["upper", "work"] {
        let made = skeleton.join(name);
        fs::create_dir(&made).with_context(|| format!("cannot create {}", made.display()))?;
        // The upper directory's mode is that of the guest's `/`.
        fs::set_permissions(&made, Permissions::from_mode(0o755))
            .context("cannot set a directory's mode")?;
    }
    let run = mke2fs(&skeleton, path)?
        .args(["-q", "-F", "-t", "ext4", "-L", "mayfly-disk", "-m", "0", "-J", JOURNAL_MIB])
        // The space for a later growth would be the larger part of the file, and the disk never grows.
        .args(["-O", "^resize_inode", "-E", "nodiscard,assume_storage_prezeroed=1", "-d"])
        .arg(&skeleton)
        .arg(path)
        .arg(format!("{mib}M"));
    watch(run, path, "cannot make the disk", silent, progress)
}
