//! What makes a guest's root of somebody's root file system: the places that the agent mounts on, names
//! that change with each VM, the directory commands run in.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use anyhow::Result;
use rustix::fs::FileType;

use super::path;
use super::rootfs::{EntryAttributes, RootfsEntry, RootfsTree};

/// Where the agent mounts something, and what is there is hidden or was the builder's. `/run` is not
/// emptied: images keep directories there that their programs need.
const MOUNTED: [(&str, bool); 4] = [("dev", true), ("proc", true), ("sys", true), ("run", false)];

/// Files that the agent writes anew at each start, in memory, as in images of Debian packages.
const NAMES: [&str; 3] = ["hostname", "hosts", "machine-id"];

/// Programs that load kernel modules.
const LOADERS: [&str; 4] =
    ["sbin/modprobe", "usr/sbin/modprobe", "bin/modprobe", "usr/bin/modprobe"];

/// Where kernel modules are.
pub const MODULES: &str = "lib/modules";

/// Fits out a tree.
pub fn fit(tree: &mut RootfsTree, workdir: Option<&str>) -> Result<()> {
    for (name, is_hidden) in MOUNTED {
        let place = Path::new(name);
        if tree.kind(place)? != Some(FileType::Directory) {
            tree.remove(place)?;
            tree.put(place, RootfsEntry::Directory, &EntryAttributes::plain(0o755))?;
        }
        if is_hidden {
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
    for name in NAMES {
        let target = format!("/run/mayfly/{name}");
        tree.remove(&etc.join(name))?;
        tree.put(
            &etc.join(name),
            RootfsEntry::Link(OsStr::new(&target)),
            &EntryAttributes::default(),
        )?;
    }
    // The one of whoever made the image, or a link to what no program here writes.
    let resolver = etc.join("resolv.conf");
    tree.remove(&resolver)?;
    let empty = RootfsEntry::File { content: &mut std::io::empty(), size: 0, pieces: &[] };
    tree.put(&resolver, empty, &EntryAttributes::plain(0o644))?;
    if let Some(workdir) = workdir {
        // As docker does. One that cannot be made is the command's trouble, and it will say so.
        let place = path::place(workdir.as_bytes()).unwrap_or_default();
        let _ = tree.ensure_directory(&place);
    }
    Ok(())
}

/// Whether it could load kernel modules, if it had any.
pub fn loads_modules(tree: &RootfsTree) -> Result<bool> {
    for loader in LOADERS {
        if tree.kind(Path::new(loader))?.is_some() {
            return Ok(true);
        }
    }
    Ok(false)
}

/// How much a file system must hold for a tree.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct TreeExtent {
    /// Bytes in whole blocks.
    pub bytes: u64,
    pub inodes: u64,
}

/// Measures a tree.
pub fn measure(tree: &RootfsTree) -> Result<TreeExtent> {
    let mut extent = TreeExtent::default();
    let mut waiting = vec![PathBuf::new()];
    while let Some(directory) = waiting.pop() {
        let Some(opened) = tree.directory(&directory)? else { continue };
        for name in super::rootfs::names_in(std::os::fd::AsFd::as_fd(&opened))? {
            let flags = rustix::fs::AtFlags::SYMLINK_NOFOLLOW;
            let about = rustix::fs::statat(&opened, &name, flags)?;
            extent.inodes += 1;
            // What blocks it has here, but no fewer than one: mke2fs keeps holes, too.
            extent.bytes +=
                (u64::try_from(about.st_blocks)? * 512).next_multiple_of(4096).max(4096);
            if FileType::from_raw_mode(about.st_mode) == FileType::Directory {
                waiting.push(directory.join(name));
            }
        }
    }
    Ok(extent)
}
