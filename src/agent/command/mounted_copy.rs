//! Copies that are mounted. The host has written the files to a disk, as a file system that is only read. An overlay
//! with a layer on the VM's own disk makes them a directory like any other.
//!
//! Nothing has to be created or written, however many files there are. If a step fails, nothing is left, and the host
//! sends the files instead.

use std::fs::{self, DirBuilder, File, Metadata, Permissions};
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::Path;

use anyhow::{Context, Result, bail};
use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount as mount_at, umount2};
use nix::{libc, request_code_none};
use rustix::fs::{AtFlags, Mode, mkdirat, openat, unlinkat};

use crate::agent::boot::modules;
use crate::agent::boot::mounts::{FILES_DISK, OWN_DISK};
use crate::archive::{self, CopyDestination, CopySource, CopyTarget, FileTime};
use crate::sys::descriptor;
use crate::sys::directory_cursor::for_each_name;
use crate::sys::file_system::OPEN_DIRECTORY;
use crate::sys::kernel;

/// Where both disks are mounted meanwhile. The overlay does not need their paths any more.
const LOWER: &str = "/run/mayfly/files";
const DISK: &str = "/run/mayfly/disk";

/// The overlay's directories on the VM's own disk, beside those of the root.
const LAYERS: &str = "/run/mayfly/disk/files";
const UPPER: &str = "/run/mayfly/disk/files/upper";
const WORK: &str = "/run/mayfly/disk/files/work";

/// `BLKFLSBUF` of `linux/fs.h`: forgets what was read from a disk.
const FORGET: libc::Ioctl = request_code_none!(0x12, 97);

/// Makes the files on the files disk the directory at `path`, which is missing or an empty directory.
///
/// # Errors
/// The step that failed; if something is at `path`.
pub fn mount(path: &Path) -> Result<()> {
    archive::make_parents(path)?;
    let source = CopySource { name: None, contents: true, is_directory: true };
    match CopyDestination::look(path)?.target(&source)? {
        CopyTarget::Into { directory } => {
            for_each_name(directory.as_fd(), &mut |name| bail!("{name:?} is there"))?;
            // An existing directory keeps its attributes.
            let attributes = File::from(directory.try_clone()?).metadata()?;
            mount_on(&directory, Some(&attributes))
        }
        CopyTarget::As { parent, name } => {
            mkdirat(&parent, &name, Mode::RWXU).context("create the directory")?;
            openat(&parent, &name, OPEN_DIRECTORY, Mode::empty())
                .map_err(Into::into)
                .and_then(|directory| mount_on(&directory, None))
                .inspect_err(|_| {
                    let _ = unlinkat(&parent, &name, AtFlags::REMOVEDIR);
                })
        }
    }
}

/// Mounts the files on a directory. The root of the files gives it its attributes, unless there are others.
fn mount_on(directory: &OwnedFd, attributes: Option<&Metadata>) -> Result<()> {
    // It may be part of the kernel.
    let _ = modules::load_by_name(&Path::new("/lib/modules").join(kernel::release()), "erofs");
    forget(FILES_DISK).with_context(|| format!("read {FILES_DISK} again"))?;
    let read_only = MsFlags::MS_RDONLY | MsFlags::MS_NODEV | MsFlags::MS_NOATIME;
    let _lower = TemporaryMount::begin(FILES_DISK, LOWER, "erofs", read_only)?;
    let own = MsFlags::MS_NODEV | MsFlags::MS_NOATIME;
    let _disk = TemporaryMount::begin(OWN_DISK, DISK, "ext4", own)?;
    fs::create_dir(LAYERS).context("create the layers")?;
    let layered = layer_on(directory, attributes);
    if layered.is_err() {
        let _ = fs::remove_dir_all(LAYERS);
    }
    layered
}

fn layer_on(directory: &OwnedFd, attributes: Option<&Metadata>) -> Result<()> {
    for layer in [UPPER, WORK] {
        fs::create_dir(layer).context(layer)?;
    }
    let root = fs::metadata(LOWER).context(LOWER)?;
    let of = attributes.unwrap_or(&root);
    std::os::unix::fs::chown(UPPER, Some(of.uid()), Some(of.gid())).context(UPPER)?;
    fs::set_permissions(UPPER, Permissions::from_mode(of.mode() & 0o7777)).context(UPPER)?;
    let modified = FileTime {
        seconds: of.mtime(),
        nanoseconds: u32::try_from(of.mtime_nsec()).unwrap_or_default(),
    };
    let upper = File::open(UPPER).context(UPPER)?;
    rustix::fs::futimens(&upper, &modified.stamps()).context(UPPER)?;
    // As for the root; see `boot::mounts`.
    let layers = format!("lowerdir={LOWER},upperdir={UPPER},workdir={WORK},redirect_dir=on");
    let at = descriptor::path(directory);
    mount_at(Some("overlay"), &at, Some("overlay"), MsFlags::MS_NOATIME, Some(&*layers))
        .context("mount the overlay")
}

/// A mount that ends with this value, unless another mount uses its files: then it only loses its path.
struct TemporaryMount(&'static str);

impl TemporaryMount {
    fn begin(disk: &str, at: &'static str, kind: &str, flags: MsFlags) -> Result<TemporaryMount> {
        DirBuilder::new().mode(0o700).create(at).context(at)?;
        let mounted = mount_at(Some(disk), at, Some(kind), flags, None::<&str>);
        if mounted.is_err() {
            let _ = fs::remove_dir(at);
        }
        mounted.with_context(|| format!("mount {disk} ({kind})"))?;
        Ok(TemporaryMount(at))
    }
}

impl Drop for TemporaryMount {
    fn drop(&mut self) {
        let _ = umount2(self.0, MntFlags::MNT_DETACH);
        let _ = fs::remove_dir(self.0);
    }
}

/// Forgets what the kernel has read from a disk, which the host has changed since.
fn forget(disk: &str) -> io::Result<()> {
    let disk = File::open(disk)?;
    // SAFETY: this request takes no argument.
    Errno::result(unsafe { libc::ioctl(disk.as_raw_fd(), FORGET, 0) })?;
    Ok(())
}
