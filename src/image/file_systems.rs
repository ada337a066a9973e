//! File systems, made of directories by mke2fs.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use anyhow::{Context, Result};

use super::progress::ProgressSink;
use super::sandbox::{self, silent, watch};
use crate::host::directory;
use crate::host::which::HostTool;

pub const MKE2FS: HostTool = HostTool { program: "mke2fs", package: "e2fsprogs" };

/// MiB of each VM's disk that its journal takes: the least that mke2fs accepts is 4 (1,024 blocks of
/// 4 KiB), and a throwaway machine has no use for more.
const JOURNAL_MIB: &str = "size=4";

/// The programs that make file systems.
pub fn tools() -> [HostTool; 1] {
    [MKE2FS]
}

/// What a file system must hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileSystemSize {
    /// Bytes in whole blocks of 4 KiB.
    pub bytes: u64,
    pub inodes: u64,
}

impl FileSystemSize {
    /// MiB that are enough: the content, a twentieth for what maps it, the inodes of 256 bytes and as
    /// much again for names, and what every file system has.
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

/// The same, as large as it must be.
pub fn make_root_for(
    tree: &Path,
    path: &Path,
    room: FileSystemSize,
    progress: &mut dyn ProgressSink,
) -> Result<()> {
    // Without these, mke2fs takes what it thinks right for small file systems, or for average files.
    let inodes = room.inodes + room.inodes / 10 + 256;
    let options = ["-b", "4096", "-I", "256", "-N", &inodes.to_string()];
    make_read_only(tree, path, room.mib(), &options, progress)
}

fn make_read_only(
    tree: &Path,
    path: &Path,
    mib: u64,
    options: &[&str],
    progress: &mut dyn ProgressSink,
) -> Result<()> {
    let run = sandbox::run(MKE2FS)?
        .args(["-q", "-F", "-t", "ext4", "-L", "mayfly-root", "-m", "0"])
        .args(["-O", "^has_journal,^resize_inode"])
        .args(options)
        .args(["-E", "nodiscard,assume_storage_prezeroed=1", "-d"])
        .arg(tree)
        .arg(path)
        .arg(format!("{mib}M"));
    watch(run, path, "cannot make the root file system", silent, progress)
}

/// The seed of every VM's own disk, with the two directories of an overlay in it. A new file is all
/// zeros, so mke2fs need not write any, and the guest need not do it later either.
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
    let run = sandbox::run(MKE2FS)?
        .args(["-q", "-F", "-t", "ext4", "-L", "mayfly-disk", "-m", "0", "-J", JOURNAL_MIB])
        // Room to grow would be the larger part of the file, and the disk never grows.
        .args(["-O", "^resize_inode", "-E", "nodiscard,assume_storage_prezeroed=1", "-d"])
        .arg(&skeleton)
        .arg(path)
        .arg(format!("{mib}M"));
    watch(run, path, "cannot make the disk", silent, progress)
}
