//! A guest's file systems. The root is an overlay: the image below, the VM's own disk above.

use std::env::set_current_dir;
use std::fs::{self, File};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chroot, symlink};
use std::path::Path;

use anyhow::{Context as _, Result};
use nix::errno::Errno;
use nix::mount::{MsFlags, mount};
use rustix::fs::sync;

use super::run_directories;
use crate::sys::{descriptor, file_system};

/// The image: read-only, and shared by all VMs made from it.
pub const ROOT_DISK: &str = "/dev/vda";
/// The VM's own disk.
pub const OWN_DISK: &str = "/dev/vdb";
/// The disk with files that the host copies into the VM, which can only read it.
pub const FILES_DISK: &str = "/dev/vdc";

/// What must be flushed and remounted read-only at the end.
#[derive(Debug, Default)]
pub struct GuestMounts {
    /// The root of the VM's own disk, which has no path; `None` in a guest without disks.
    disk: Option<File>,
}

struct FileSystem {
    kind: &'static str,
    target: &'static str,
    flags: MsFlags,
    options: &'static str,
}

/// Pseudo file systems, needed before anything else.
const EARLY: [FileSystem; 3] = [
    FileSystem { kind: "proc", target: "/proc", flags: QUIET, options: "" },
    FileSystem { kind: "sysfs", target: "/sys", flags: QUIET, options: "" },
    FileSystem { kind: "devtmpfs", target: "/dev", flags: MsFlags::MS_NOSUID, options: "mode=755" },
];

/// What Debian mounts, with Debian's options. `/tmp` stays on the disk.
const LATE: [FileSystem; 5] = [
    FileSystem {
        kind: "devpts",
        target: "/dev/pts",
        flags: MsFlags::MS_NOSUID.union(MsFlags::MS_NOEXEC),
        options: "gid=5,mode=620,ptmxmode=666",
    },
    FileSystem { kind: "tmpfs", target: "/dev/shm", flags: PRIVATE, options: "mode=1777" },
    FileSystem { kind: "tmpfs", target: "/run", flags: PRIVATE, options: "mode=755,size=20%" },
    FileSystem { kind: "tmpfs", target: "/run/lock", flags: QUIET, options: "mode=1777,size=5m" },
    FileSystem { kind: "cgroup2", target: CGROUPS, flags: QUIET, options: "" },
];

/// Where cgroup2 is mounted.
pub const CGROUPS: &str = "/sys/fs/cgroup";

const PRIVATE: MsFlags = MsFlags::MS_NOSUID.union(MsFlags::MS_NODEV);
const QUIET: MsFlags = PRIVATE.union(MsFlags::MS_NOEXEC);

/// Mounts `/proc`, `/sys` and `/dev` in the initial file system.
///
/// # Errors
/// The mount that failed.
pub fn early() -> Result<()> {
    EARLY.iter().try_for_each(|file_system| file_system.mount())
}

/// Mounts the image and the VM's own disk as one overlay and switches to it as the root.
///
/// # Errors
/// The step that failed.
pub fn root() -> Result<GuestMounts> {
    let image = MsFlags::MS_RDONLY | MsFlags::MS_NODEV | MsFlags::MS_NOATIME;
    let own = MsFlags::MS_NODEV | MsFlags::MS_NOATIME;
    mount_at(ROOT_DISK, "/lower", "ext4", image, "")?;
    mount_at(OWN_DISK, "/disk", "ext4", own, "")?;
    let disk = File::open("/disk").context("open /disk")?;
    for directory in ["/disk/upper", "/disk/work"] {
        fs::create_dir_all(directory).context(directory)?;
    }
    // With redirect_dir, directories of the image can be renamed. An upper layer could redirect to other parts
    // of the image, but only the guest's root, who may read them all, can write one.
    let layers = "lowerdir=/lower,upperdir=/disk/upper,workdir=/disk/work,redirect_dir=on";
    mount_at("overlay", "/newroot", "overlay", MsFlags::MS_NOATIME, layers)?;
    for FileSystem { target, .. } in &EARLY {
        move_mount(target, &format!("/newroot{target}"))?;
    }
    switch_root("/newroot")?;
    Ok(GuestMounts { disk: Some(disk) })
}

/// Mounts what belongs on top of the root. cgroup2 may be missing from the kernel.
///
/// # Errors
/// The mount that failed.
pub fn late() -> Result<()> {
    for file_system in &LATE {
        let mounted = match file_system.target {
            "/run" => run_directories::mount_over(Path::new("/run"), || file_system.mount()),
            _ => file_system.mount(),
        };
        match mounted {
            Err(_) if file_system.kind == "cgroup2" => {}
            result => result?,
        }
    }
    let links =
        [("fd", "/proc/self/fd"), ("stdin", "fd/0"), ("stdout", "fd/1"), ("stderr", "fd/2")];
    for (name, target) in links {
        // Shells use /dev/fd/63 for process substitution. The link may exist already.
        let _ = symlink(target, Path::new("/dev").join(name));
    }
    // In mayfly's images, /etc/hostname and similar files are links to here.
    let _ = fs::create_dir_all("/run/mayfly");
    let _ = fs::create_dir_all("/tmp");
    fs::set_permissions("/tmp", fs::Permissions::from_mode(0o1777)).context("/tmp")
}

impl GuestMounts {
    /// Flushes all data and remounts the disk read-only, so that the next start finds it consistent.
    pub fn flush(&self) {
        sync();
        let read_only = MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY;
        if let Some(disk) = &self.disk {
            // The overlay first: it holds files of the disk open for writing.
            let _ = mount(None::<&str>, "/", None::<&str>, read_only, None::<&str>);
            let path = descriptor::path(disk);
            let _ = mount(None::<&str>, &path, None::<&str>, read_only, None::<&str>);
        }
        sync();
    }
}

impl FileSystem {
    fn mount(&self) -> Result<()> {
        mount_at(self.kind, self.target, self.kind, self.flags, self.options)
    }
}

fn mount_at(source: &str, target: &str, kind: &str, flags: MsFlags, options: &str) -> Result<()> {
    fs::create_dir_all(target).with_context(|| target.to_owned())?;
    match mount(Some(source), target, Some(kind), flags, Some(options)) {
        // Some kernels are built to mount /dev themselves.
        Err(Errno::EBUSY) => Ok(()),
        result => result.with_context(|| format!("mount {source} ({kind}) on {target}")),
    }
}

fn move_mount(from: &str, to: &str) -> Result<()> {
    fs::create_dir_all(to).with_context(|| to.to_owned())?;
    mount(Some(from), to, None::<&str>, MsFlags::MS_MOVE, None::<&str>)
        .with_context(|| format!("move {from} to {to}"))
}

/// Deletes the files of the initial file system, to free their memory, and moves to the new root.
fn switch_root(new_root: &str) -> Result<()> {
    set_current_dir(new_root).with_context(|| format!("chdir to {new_root}"))?;
    let in_memory = File::open("/").and_then(file_system::is_in_memory);
    // Only in memory: on any other file system, deleting would lose data.
    if in_memory.context("statfs of /")? {
        let device = fs::metadata("/").context("/")?.dev();
        delete_contents(Path::new("/"), device);
    }
    mount(Some("."), "/", None::<&str>, MsFlags::MS_MOVE, None::<&str>)
        .with_context(|| format!("move {new_root} to /"))?;
    chroot(".").with_context(|| format!("chroot to {new_root}"))?;
    set_current_dir("/").context("chdir to /")
}

/// Deletes the contents of `directory`, except on other devices.
fn delete_contents(directory: &Path, device: u64) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let path = entry.path();
        match fs::symlink_metadata(&path) {
            Ok(metadata) if metadata.dev() != device => {}
            Ok(metadata) if metadata.is_dir() => {
                delete_contents(&path, device);
                let _ = fs::remove_dir(&path);
            }
            _ => {
                let _ = fs::remove_file(&path);
            }
        }
    }
}
