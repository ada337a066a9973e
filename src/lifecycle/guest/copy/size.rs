//! Whether what is copied into a VM can fit there. This is known before anything is copied.

use std::path::{Path, PathBuf};

use anyhow::Result;

use super::request::{CopyIn, CopyPayload};
use super::unignored::unignored;
use crate::archive::{ByteCount, PackSource};
use crate::host::directory::FilesOnce;
use crate::host::tool::ToolInterrupted;
use crate::image::ProgressSink;
use crate::lifecycle::manager::VmManager;
use crate::model::profile::DISK_MIB;
use crate::model::{ImageRecipe, MemMib, Profile, PullRecipe, Refusal, RefusalKind, VmManifest};
use crate::sys::file_system;

/// Where a guest's memory is, and not its disk.
const IN_MEMORY: [&str; 2] = ["/dev", "/run"];

/// A guest creates a file in the time in which it writes this many bytes.
const BYTES_PER_FILE: u64 = 1 << 16;

/// The bytes that copies take on the VM's disk. Holes do not count, nor does a file that was counted under another
/// name.
#[derive(Debug, Clone, Default)]
pub struct CopySize {
    /// To relative paths.
    relative: u64,
    /// To absolute paths, which on the mock backend are anywhere on the host.
    absolute: u64,
    counted: FilesOnce,
    /// How many there are.
    files: u64,
}

/// What bounds the copies into a VM, in bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CopyRoom {
    Unknown,
    /// The size of the VM's disk.
    Disk(u64),
    /// The free space around this directory of the host.
    Free(PathBuf, u64),
}

impl CopySize {
    /// Adds what a copy sends. An archive counts as nothing, and so does what cannot be read: the copy itself
    /// reports that.
    ///
    /// # Errors
    /// [`ToolInterrupted`] if `progress` was cancelled; those of git.
    pub fn add(&mut self, copy: &CopyIn, progress: &dyn ProgressSink) -> Result<()> {
        let check = || if progress.cancelled() { Err(ToolInterrupted.into()) } else { Ok(()) };
        let CopyPayload::Tree { path, follow, exclude_ignored, .. } = &copy.payload else {
            return Ok(());
        };
        let to = Path::new(copy.to.as_os_str());
        if IN_MEMORY.iter().any(|memory| to.starts_with(memory)) {
            return Ok(());
        }
        let source = PackSource { path, follow: *follow };
        let paths: Box<dyn Iterator<Item = Result<PathBuf>>> = if *exclude_ignored {
            Box::new(unignored(&source, &check)?.into_iter().map(Ok))
        } else {
            Box::new(source.everything())
        };
        let sum = if to.is_absolute() { &mut self.absolute } else { &mut self.relative };
        for path in paths {
            check()?;
            self.files += 1;
            let file = path.ok().and_then(|path| source.file_at(&path));
            // Some file systems reserve more than a file needs.
            *sum += file.map_or(0, |file| self.counted.count(&file).min(file.len()));
        }
        Ok(())
    }

    /// Bytes in files.
    pub fn bytes(&self) -> u64 {
        self.relative + self.absolute
    }

    /// How long a guest takes to create the files, in the bytes that it writes in this time.
    pub fn weight(&self) -> u64 {
        self.bytes() + self.files * BYTES_PER_FILE
    }

    pub fn is_nothing(&self) -> bool {
        self.bytes() == 0
    }

    /// Refuses copies that cannot fit. `verb` is one that makes a VM with a larger disk.
    ///
    /// # Errors
    /// `LimitReached`.
    pub fn check(&self, room: CopyRoom, verb: &str) -> Result<(), Refusal> {
        let (bytes, bound, has) = match room {
            CopyRoom::Unknown => return Ok(()),
            CopyRoom::Disk(disk) => {
                let has = format!("the VM's disk has {}", ByteCount(disk));
                (self.relative + self.absolute, disk, has)
            }
            CopyRoom::Free(ref at, free) => {
                let has = format!("{} are free in {}", ByteCount(free), at.display());
                (self.relative, free, has)
            }
        };
        if bytes <= bound {
            return Ok(());
        }
        // Rounded up, because it may be only a little more.
        let takes = ByteCount(bytes.next_multiple_of(1 << 20));
        let message = format!("the files to copy take {takes}, and {has}");
        let hint = match (room, enough(bytes)) {
            (CopyRoom::Disk(_), Some(disk)) => {
                format!("'mayfly {verb} --disk {disk}' gives a VM a disk that is large enough")
            }
            (CopyRoom::Disk(_), None) => {
                format!("copy less: a disk has at most {}", MemMib::shown(DISK_MIB.max))
            }
            _ => "'mayfly df' shows what mayfly takes; '--state-dir' names a directory on another \
                  disk"
                .to_owned(),
        };
        Err(Refusal::new(RefusalKind::LimitReached, message).hint(hint))
    }
}

impl CopyRoom {
    /// The room in a VM that exists.
    pub fn of(manager: &VmManager, manifest: &VmManifest) -> CopyRoom {
        match manifest.disk_mib {
            Some(mib) => CopyRoom::on_disk(mib),
            None => CopyRoom::beside(manager),
        }
    }

    /// The room in a VM that will boot the image of `profile`, which may not be built yet. `disk` is the size that was
    /// asked for.
    pub fn planned(manager: &VmManager, profile: &Profile, disk: Option<MemMib>) -> CopyRoom {
        let of_image = || match &profile.recipe {
            ImageRecipe::Debian(recipe) => Some(recipe.disk_mib),
            ImageRecipe::Pulled(PullRecipe { disk_mib: Some(mib), .. }) => Some(*mib),
            ImageRecipe::Imported(_) | ImageRecipe::Pulled(_) => {
                manager.images().ok()?.find(&profile.name).ok()??.disk_mib().ok()
            }
        };
        let mib = disk.map(|disk| disk.0).or_else(of_image);
        mib.map_or(CopyRoom::Unknown, CopyRoom::on_disk)
    }

    fn on_disk(mib: u32) -> CopyRoom {
        CopyRoom::Disk(u64::from(mib) << 20)
    }

    /// For a VM without a disk, whose files are in the state directory.
    pub fn beside(manager: &VmManager) -> CopyRoom {
        let state = &manager.settings.directories.state;
        file_system::free_at(state)
            .map_or(CopyRoom::Unknown, |free| CopyRoom::Free(state.clone(), free))
    }
}

/// A round size for a disk with this many bytes of files, the file system and some free space; `None` if no disk is
/// that large.
fn enough(bytes: u64) -> Option<MemMib> {
    let gib = bytes.saturating_add(bytes / 8).div_ceil(1 << 30);
    let gib = if gib > 20 { gib.next_multiple_of(10) } else { gib };
    let mib = u32::try_from(gib << 10).ok()?;
    (u64::from(mib) <= DISK_MIB.max).then_some(MemMib(mib))
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};

    use super::*;
    use crate::image::SilentProgress;
    use crate::lifecycle::CopyUser;
    use crate::protocol::WireText;

    fn copy(path: &Path, to: &str) -> CopyIn {
        let payload = CopyPayload::Tree {
            path: path.to_owned(),
            follow: true,
            contents: true,
            exclude_ignored: false,
        };
        CopyIn { payload, to: WireText::from(to), parents: true, run_as: CopyUser::default() }
    }

    #[test]
    fn only_what_is_stored_counts_and_only_once() {
        let dir = tempfile::tempdir().unwrap();
        let (tree, link) = (dir.path().join("tree"), dir.path().join("link"));
        fs::create_dir(&tree).unwrap();
        let size_to = |path: &Path, to: &[&str]| {
            let mut size = CopySize::default();
            to.iter().for_each(|to| size.add(&copy(path, to), &SilentProgress).unwrap());
            (size.relative, size.absolute)
        };
        File::create(tree.join("holes")).unwrap().set_len(85 << 30).unwrap();
        assert_eq!(size_to(&tree, &["x"]), (0, 0));
        fs::write(tree.join("full"), vec![1; 1 << 20]).unwrap();
        fs::hard_link(tree.join("full"), tree.join("again")).unwrap();
        std::os::unix::fs::symlink("tree/full", &link).unwrap();
        let once = (1 << 20, 0);
        assert_eq!(size_to(&tree, &["x"]), once);
        assert_eq!(size_to(&tree, &["x", "/y"]), once);
        assert_eq!(size_to(&link, &["x"]), once);
        assert_eq!(size_to(&tree, &["/y"]), (0, 1 << 20));
        assert_eq!(size_to(&tree, &["/dev/shm/y"]), (0, 0));
    }

    #[test]
    fn what_cannot_fit_is_refused_with_a_disk_that_is_large_enough() {
        let size = |relative, absolute| CopySize { relative, absolute, ..CopySize::default() };
        let refused = |relative, absolute, room| {
            let refusal = size(relative, absolute).check(room, "run").unwrap_err();
            assert_eq!(refusal.kind, RefusalKind::LimitReached);
            format!("{}; {}", refusal.message, refusal.hint.unwrap())
        };
        let gib = 1 << 30;
        assert_eq!(
            refused(80 * gib, 5 * gib, CopyRoom::on_disk(1024)),
            "the files to copy take 85 GiB, and the VM's disk has 1024 MiB; \
             'mayfly run --disk 100G' gives a VM a disk that is large enough"
        );
        assert_eq!(
            refused((64 << 20) + 1, 0, CopyRoom::on_disk(64)),
            "the files to copy take 65 MiB, and the VM's disk has 64 MiB; \
             'mayfly run --disk 1G' gives a VM a disk that is large enough"
        );
        let much = refused(1 << 44, 1, CopyRoom::on_disk(1024));
        assert!(much.ends_with("; copy less: a disk has at most 16384G"), "{much}");
        let free = refused(2, 0, CopyRoom::Free("/state".into(), 1));
        assert!(free.contains("1 bytes are free in /state; 'mayfly df' "), "{free}");
        let fits = size(gib, 1);
        assert_eq!(fits.check(CopyRoom::Free("/state".into(), gib), "run"), Ok(()));
        assert_eq!(fits.check(CopyRoom::on_disk(1025), "run"), Ok(()));
        assert_eq!(fits.check(CopyRoom::Unknown, "run"), Ok(()));
    }
}
