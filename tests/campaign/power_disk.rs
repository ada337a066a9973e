//! A disk whose power can be cut: an ext4 file system in a file, in a mount namespace of this thread.
//!
//! Only what the file system has written to its device is in that file. The file itself is on a second file system,
//! which is frozen while the file is copied, so a copy is the disk at one instant. Mounting the copy is what a host
//! does when its power is back. Writes that the device has accepted are not lost or reordered: a drive that ignores
//! flushes is worse.

use std::cell::Cell;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::sched::{CloneFlags, unshare};
use tempfile::TempDir;

use super::procfs;
use super::support::skip::skipped;

/// Without `auto_da_alloc`, ext4 does not guess that a file must be written before it is renamed, as many other file
/// systems do not.
const OPTIONS: &str = "loop,noauto_da_alloc,data=ordered,commit=";

/// The disk. Everything is unmounted when this value is dropped.
#[derive(Debug)]
pub struct PowerDisk {
    /// Where it is mounted.
    mounted: PathBuf,
    /// A file system in memory, with everything.
    room: TempDir,
    cuts: Cell<usize>,
    boots: Cell<usize>,
}

/// The content of the disk when the power was cut.
#[derive(Debug)]
pub struct PowerCut(PathBuf);

impl PowerDisk {
    /// Mounts a new disk of this size at `base`, for this thread and what it starts. ext4 commits its journal after
    /// `commit` seconds at the latest. Prints if that is impossible here.
    pub fn mount(base: &Path, mib: usize, commit: usize) -> Option<PowerDisk> {
        let namespace = unshare(CloneFlags::CLONE_NEWNS).map_err(|error| error.to_string());
        let disk = namespace.and_then(|()| PowerDisk::make(base, mib, commit));
        disk.map_err(|why| skipped(&format!("no disk to cut the power of: {why}"))).ok()
    }

    fn make(base: &Path, mib: usize, commit: usize) -> Result<PowerDisk, String> {
        let room = tempfile::Builder::new().prefix("mf").tempdir().unwrap();
        let disk =
            PowerDisk { mounted: base.to_owned(), room, cuts: Cell::new(0), boots: Cell::new(0) };
        let path = |name: &str| disk.room.path().join(name).display().to_string();
        let mounted = base.display().to_string();
        tool("mount", &["--make-rprivate", "/"])?;
        tool("mount", &["-t", "tmpfs", "-o", "mode=700", "tmpfs", &path("")])?;
        for (name, size) in [("outer", mib + mib / 8 + 16), ("outer/inner", mib)] {
            let image = path(&format!("{name}.img"));
            let file = fs::File::create(&image).map_err(|error| format!("{image}: {error}"))?;
            file.set_len((size as u64) << 20).map_err(|error| format!("{image}: {error}"))?;
            // Only the inner one needs a journal.
            let journal = if name == "outer" { "^has_journal" } else { "has_journal" };
            tool("mke2fs", &["-q", "-F", "-t", "ext4", "-m", "0", "-O", journal, &image])?;
            if name == "outer" {
                fs::create_dir(path("outer")).unwrap();
                tool("mount", &["-o", "loop,noatime", &image, &path("outer")])?;
            } else {
                tool("mount", &["-o", &format!("{OPTIONS}{commit}"), &image, &mounted])?;
            }
        }
        let _ = fs::remove_dir(base.join("lost+found"));
        Ok(disk)
    }

    /// Writes everything, so that what a test has prepared is on the disk.
    pub fn sync(&self) {
        must("sync", &["--file-system", self.mounted.to_str().unwrap()]);
    }

    /// Copies the disk as it is now.
    pub fn cut(&self) -> PowerCut {
        let outer = self.room.path().join("outer");
        let copy = self.room.path().join(format!("cut-{}", self.cuts.replace(self.cuts.get() + 1)));
        let text = |path: &Path| path.to_str().unwrap().to_owned();
        let (frozen, inner) = (text(&outer), text(&outer.join("inner.img")));
        must("fsfreeze", &["--freeze", &frozen]);
        let copied = tool("cp", &["--sparse=always", &inner, &text(&copy)]);
        must("fsfreeze", &["--unfreeze", &frozen]);
        copied.unwrap_or_else(|error| panic!("{error}"));
        PowerCut(copy)
    }

    /// Boots the host again: mounts what a cut has left, under another boot id. Nothing may run on the disk.
    pub fn boot(&self, cut: &PowerCut) {
        let mounted = self.mounted.to_str().unwrap();
        // The kernel closes the files of a killed process a little after its end.
        procfs::eventually("an unmounted disk", || tool("umount", &[mounted]).ok());
        must("mount", &["-o", "loop", cut.0.to_str().unwrap(), mounted]);
        self.boots.set(self.boots.get() + 1);
        let boot_id = self.room.path().join("boot_id");
        fs::write(&boot_id, format!("11111111-2222-3333-4444-{:012}\n", self.boots.get())).unwrap();
        if self.boots.get() == 1 {
            must(
                "mount",
                &["--bind", boot_id.to_str().unwrap(), "/proc/sys/kernel/random/boot_id"],
            );
        }
    }

    /// Forgets a cut that nothing is mounted from any more, or will be unmounted by the next boot.
    pub fn forget(&self, cut: PowerCut) {
        let _ = fs::remove_file(cut.0);
    }
}

impl Drop for PowerDisk {
    fn drop(&mut self) {
        let _ = tool("umount", &["/proc/sys/kernel/random/boot_id"]);
        // Other threads and processes do not see these mounts, so nobody else can keep them.
        let outer = self.room.path().join("outer");
        for path in [&self.mounted, &outer, self.room.path()] {
            let _ = tool("umount", &["--lazy", path.to_str().unwrap()]);
        }
    }
}

fn tool(name: &str, args: &[&str]) -> Result<(), String> {
    let path = format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default());
    let output = Command::new(name).args(args).env("PATH", path).output();
    let output = output.map_err(|error| format!("{name}: {error}"))?;
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    if output.status.success() { Ok(()) } else { Err(format!("{name} {args:?}: {said}")) }
}

fn must(name: &str, args: &[&str]) {
    tool(name, args).unwrap_or_else(|error| panic!("{error}"));
}
