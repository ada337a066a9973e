//! Sparse files: copying them, and making files sparse.

use std::fs::{File, OpenOptions, Permissions};
use std::io::ErrorKind;
use std::os::unix::fs::{FileExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

use anyhow::{Context, Result, bail};
use rustix::fs::{FallocateFlags, SeekFrom, fallocate, ioctl_ficlone, seek};
use rustix::io::Errno;

use super::atomic_file::{remove_if_there, write_whole};
use super::input;

/// Bytes copied at once.
const CHUNK: usize = 1 << 17;

/// The smallest hole to make: a block of most file systems, and a page of a guest's memory.
const BLOCK: usize = 1 << 12;

const ZEROS: [u8; BLOCK] = [0; BLOCK];

/// Copies `source` to `dest`, which must not exist, with mode 0600. Shares the blocks if the file system can
/// (btrfs, XFS, bcachefs), else copies only the parts with data. It is not synced, so after a power failure
/// `dest` may be incomplete.
///
/// `dest` exists only when the copy is complete. [`write_whole`] writes it beside `dest`; if the
/// process is killed, the next call replaces that file. The caller holds a lock.
///
/// # Errors
/// `dest` exists, or those of the file system. Then no copy is left.
pub fn clone_file(source: &Path, dest: &Path) -> Result<()> {
    clone_as(source, dest, |_| Ok(()))
}

/// As [`clone_file`], but even after a power failure `dest` is complete or does not exist.
pub fn clone_file_synced(source: &Path, dest: &Path) -> Result<()> {
    clone_as(source, dest, |copy| Ok(copy.sync_all()?))
}

/// Makes all of a file a hole.
///
/// # Errors
/// The file system's.
pub fn clear(path: &Path) -> Result<()> {
    let clear = || -> std::io::Result<()> {
        let file = OpenOptions::new().write(true).open(path)?;
        let size = file.metadata()?.len();
        file.set_len(0)?;
        file.set_len(size)
    };
    clear().with_context(|| format!("cannot empty {}", path.display()))
}

fn clone_as(source: &Path, dest: &Path, finish: fn(&File) -> Result<()>) -> Result<()> {
    if dest.symlink_metadata().is_ok() {
        bail!("cannot create {}: it exists", dest.display());
    }
    write_whole(dest, |temporary| finish(&copy_to_new(source, temporary)?))
        .with_context(|| format!("cannot copy {} to {}", source.display(), dest.display()))
}

fn copy_to_new(source: &Path, dest: &Path) -> Result<File> {
    let from = input::open_regular(source)?;
    remove_if_there(dest)?;
    let to = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .custom_flags(nix::libc::O_NOFOLLOW)
        .open(dest)?;
    clone_into(&from, &to)?;
    Ok(to)
}

fn clone_into(from: &File, to: &File) -> Result<()> {
    match ioctl_ficlone(to, from) {
        Ok(()) => Ok(()),
        // The file system cannot share blocks, or the two files are on different ones.
        Err(Errno::OPNOTSUPP | Errno::XDEV | Errno::INVAL | Errno::NOTTY | Errno::NOSYS) => {
            copy_data(from, to)
        }
        Err(error) => Err(error.into()),
    }
}

fn copy_data(from: &File, to: &File) -> Result<()> {
    to.set_len(from.metadata()?.len())?;
    let mut buffer = vec![0; CHUNK];
    for_each_extent(from, &mut |mut start, end| {
        while start < end {
            let part = buffer.len().min(usize::try_from(end - start).unwrap_or(usize::MAX));
            from.read_exact_at(&mut buffer[..part], start)?;
            to.write_all_at(&buffer[..part], start)?;
            start += part as u64;
        }
        Ok(())
    })
}

/// Opens a file for writing. If it is missing, it is created, without content. It becomes `size` bytes long, if it
/// is not. Everybody who can enter its directory may read it.
pub fn open_sized(path: &Path, size: u64) -> Result<File> {
    let opened = || {
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .custom_flags(nix::libc::O_NOFOLLOW)
            .open(path)?;
        if file.metadata()?.len() != size {
            file.set_permissions(Permissions::from_mode(0o644))?;
            file.set_len(size)?;
        }
        Ok::<_, std::io::Error>(file)
    };
    opened().with_context(|| format!("cannot create {}", path.display()))
}

/// Calls `visit` with the start and end of each part of `file` that is not a hole, in order. On a file system
/// without holes that is the whole file.
pub fn for_each_extent(file: &File, visit: &mut dyn FnMut(u64, u64) -> Result<()>) -> Result<()> {
    let length = file.metadata()?.len();
    let mut position = 0;
    while position < length {
        let start = match seek(file, SeekFrom::Data(position)) {
            Ok(start) => start,
            // The rest is a hole.
            Err(Errno::NXIO) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        let end = seek(file, SeekFrom::Hole(start))?;
        if end <= start {
            return Err(std::io::Error::from(ErrorKind::UnexpectedEof).into());
        }
        visit(start, end)?;
        position = end;
    }
    Ok(())
}

/// Frees the blocks of a file that contain only zeros; its bytes stay the same. Does nothing if the file system
/// has no holes.
pub fn dig_holes(path: &Path) -> Result<()> {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(nix::libc::O_NOFOLLOW)
        .open(path)
        .with_context(|| format!("cannot open {}", path.display()))?;
    let mut buffer = vec![0; CHUNK];
    // The start of the zeros before the current block, if any.
    let mut zeros = None;
    let dug = for_each_extent(&file, &mut |mut start, end| {
        while start < end {
            let part = buffer.len().min(usize::try_from(end - start).unwrap_or(usize::MAX));
            file.read_exact_at(&mut buffer[..part], start)?;
            for block in buffer[..part].chunks(BLOCK) {
                if *block == ZEROS[..block.len()] {
                    zeros.get_or_insert(start);
                } else if let Some(begin) = zeros.take() {
                    punch(&file, begin, start)?;
                }
                start += block.len() as u64;
            }
        }
        zeros.take().map_or(Ok(()), |begin| punch(&file, begin, end))
    });
    match dug {
        Err(error) if error.downcast_ref() == Some(&Errno::OPNOTSUPP) => Ok(()),
        dug => dug.with_context(|| format!("cannot make {} sparse", path.display())),
    }
}

fn punch(file: &File, start: u64, end: u64) -> Result<()> {
    let mode = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    Ok(fallocate(file, mode, start, end - start)?)
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::os::unix::fs::MetadataExt;

    use super::*;
    use crate::host::atomic_file::temporary_of;

    #[test]
    fn a_copy_has_the_same_bytes_and_the_same_holes() {
        let dir = tempfile::tempdir().unwrap();
        let (source, dest) = (dir.path().join("a"), dir.path().join("b"));
        let file = File::create(&source).unwrap();
        file.set_len(64 << 20).unwrap();
        file.write_all_at(&[7; 5000], 3 << 20).unwrap();
        file.write_all_at(&[9; 300_000], (40 << 20) + 17).unwrap();
        clone_file(&source, &dest).unwrap();

        let (mut a, mut b) = (Vec::new(), Vec::new());
        File::open(&source).unwrap().read_to_end(&mut a).unwrap();
        File::open(&dest).unwrap().read_to_end(&mut b).unwrap();
        assert!(a == b);
        let meta = std::fs::metadata(&dest).unwrap();
        assert!(meta.blocks() * 512 < 2 << 20, "{} blocks", meta.blocks());
        assert_eq!(meta.mode() & 0o777, 0o600);
    }

    #[test]
    fn empty_files_and_files_that_are_all_hole() {
        let dir = tempfile::tempdir().unwrap();
        for (name, length) in [("empty", 0), ("hole", 1 << 30)] {
            let source = dir.path().join(name);
            File::create(&source).unwrap().set_len(length).unwrap();
            let dest = source.with_extension("copy");
            clone_file(&source, &dest).unwrap();
            let meta = std::fs::metadata(&dest).unwrap();
            assert_eq!(meta.len(), length);
            assert_eq!(meta.blocks(), 0);
        }
    }

    #[test]
    fn zeros_become_holes_and_nothing_else_does() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("memory");
        let mut bytes = vec![0; (8 << 20) + 1000];
        // Single bytes at both ends of blocks, and data across the border of two chunks.
        for at in [0, 4095, 3 << 20, (5 << 20) + 4095, bytes.len() - 1] {
            bytes[at] = 1;
        }
        bytes[(1 << 17) - 5000..(1 << 17) + 9000].fill(7);
        std::fs::write(&path, &bytes).unwrap();
        let file = File::options().write(true).open(&path).unwrap();
        // An existing hole.
        punch(&file, 6 << 20, 7 << 20).unwrap();
        for _ in 0..2 {
            dig_holes(&path).unwrap();
            assert!(std::fs::read(&path).unwrap() == bytes);
            let blocks = std::fs::metadata(&path).unwrap().blocks();
            assert!(blocks * 512 < 200_000, "{blocks} blocks");
        }
    }

    #[test]
    fn an_incomplete_copy_is_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let (source, dest) = (dir.path().join("a"), dir.path().join("b"));
        std::fs::write(&source, "all of it").unwrap();
        std::fs::write(temporary_of(&dest), "hal").unwrap();
        clone_file(&source, &dest).unwrap();
        assert_eq!(std::fs::read_to_string(&dest).unwrap(), "all of it");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 2);
    }

    #[test]
    fn an_existing_file_is_not_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        let (source, dest) = (dir.path().join("a"), dir.path().join("b"));
        std::fs::write(&source, "new").unwrap();
        std::fs::write(&dest, "old").unwrap();
        assert!(clone_file(&source, &dest).is_err());
        assert_eq!(std::fs::read_to_string(&dest).unwrap(), "old");
        let link = dir.path().join("link");
        std::os::unix::fs::symlink(dir.path().join("elsewhere"), &link).unwrap();
        assert!(clone_file(&source, &link).is_err());
        assert!(!dir.path().join("elsewhere").exists());
    }
}
