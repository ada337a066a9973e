//! Turning a root file system into a guest's: mount points of the agent, files that differ between VMs, and
//! the working directory of commands.

use std::ffi::OsStr;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use anyhow::Result;
use rustix::fs::{AtFlags, FileType, statat};

use super::attributes::EntryAttributes;
use super::late_times::LateTimes;
use super::path;
use super::rootfs::{RootfsEntry, RootfsTree, names_in};

/// Mount points of the agent, and whether they are emptied. `/run` is not: images have directories there
/// that their programs need.
const MOUNT_POINTS: [(&str, bool); 4] =
    [("dev", true), ("proc", true), ("sys", true), ("run", false)];

/// Files in `/etc` that the agent writes in memory at each start. Images of Debian packages have the same
/// links.
const WRITTEN_BY_AGENT: [&str; 3] = ["hostname", "hosts", "machine-id"];

/// Programs that load kernel modules.
const LOADERS: [&str; 4] =
    ["sbin/modprobe", "usr/sbin/modprobe", "bin/modprobe", "usr/bin/modprobe"];

/// The directory of kernel modules.
pub const MODULES: &str = "lib/modules";

/// Turns a tree into a guest's root. `workdir` is the working directory of commands.
pub fn fit(tree: &mut RootfsTree, workdir: Option<&str>) -> Result<()> {
    for (name, is_emptied) in MOUNT_POINTS {
        let place = Path::new(name);
        if tree.kind(place)? != Some(FileType::Directory) {
            tree.remove(place)?;
            tree.put(place, RootfsEntry::Directory, &EntryAttributes::plain(0o755))?;
        }
        if is_emptied {
            for inner in tree.names(place)? {
                tree.remove(&place.join(inner))?;
            }
        }
    }
    if tree.directory(Path::new("tmp"))?.is_none() {
        tree.remove(Path::new("tmp"))?;
        tree.put(Path::new("tmp"), RootfsEntry::Directory, &EntryAttributes::plain(0o1777))?;
    }
    let etc = Path::new("etc");
    if tree.directory(etc)?.is_none() {
        tree.remove(etc)?;
        tree.put(etc, RootfsEntry::Directory, &EntryAttributes::plain(0o755))?;
    }
    for name in WRITTEN_BY_AGENT {
        let target = format!("/run/mayfly/{name}");
        tree.remove(&etc.join(name))?;
        tree.put(
            &etc.join(name),
            RootfsEntry::Link(OsStr::new(&target)),
            &EntryAttributes::default(),
        )?;
    }
    // The image's own is that of its builder, or a link to a file that no program here writes.
    let resolver = etc.join("resolv.conf");
    tree.remove(&resolver)?;
    let empty = RootfsEntry::File { content: &mut std::io::empty(), size: 0, pieces: &[] };
    tree.put(&resolver, empty, &EntryAttributes::plain(0o644))?;
    if let Some(workdir) = workdir {
        // As docker does. If it cannot be created, commands will fail and say so.
        let place = path::place(workdir.as_bytes()).unwrap_or_default();
        let _ = tree.ensure_directory(&place);
    }
    Ok(())
}

/// Whether the tree has a program that loads kernel modules.
pub fn loads_modules(tree: &RootfsTree) -> Result<bool> {
    for loader in LOADERS {
        if tree.kind(Path::new(loader))?.is_some() {
            return Ok(true);
        }
    }
    Ok(false)
}

/// What a file system must hold for a tree.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct TreeExtent {
    /// Bytes in whole blocks.
    pub bytes: u64,
    pub inodes: u64,
}

/// Measures a tree, and collects the times of its files that mke2fs does not write right.
pub fn measure(tree: &RootfsTree, late: &mut LateTimes) -> Result<TreeExtent> {
    let mut extent = TreeExtent::default();
    let mut waiting = vec![PathBuf::new()];
    while let Some(directory) = waiting.pop() {
        let Some(opened) = tree.directory(&directory)? else { continue };
        for name in names_in(opened.as_fd())? {
            let about = statat(&opened, &name, AtFlags::SYMLINK_NOFOLLOW)?;
            extent.inodes += 1;
            // The blocks it has here, and at least one: mke2fs keeps holes.
            extent.bytes +=
                (u64::try_from(about.st_blocks)? * 512).next_multiple_of(4096).max(4096);
            let place = directory.join(&name);
            late.look(opened.as_fd(), &name, &place, &about)?;
            if FileType::from_raw_mode(about.st_mode) == FileType::Directory {
                waiting.push(place);
            }
        }
    }
    Ok(extent)
}
