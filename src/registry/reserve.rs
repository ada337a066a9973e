//! Space reserved on the disk, so that VMs can be stopped and deleted when a guest has filled it.
//!
//! The registry is replaced as a whole, so even recording a deletion takes space for a second copy.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use rustix::fs::{FallocateFlags, fallocate};

/// Enough for the registry of a thousand VMs: about 700 bytes each, and at most 1 KiB of labels.
const BYTES: u64 = 2 << 20;

/// The file that takes up the space.
#[derive(Debug, Clone)]
pub struct DiskReserve(PathBuf);

impl DiskReserve {
    /// The reserve of the state directory `state`.
    pub fn of(state: &Path) -> DiskReserve {
        DiskReserve(state.join("reserve"))
    }

    /// Reserves the space, if it is not reserved yet and the disk has it. If not, the command may still
    /// succeed.
    pub fn ensure(&self) {
        let whole = |file: fs::Metadata| file.is_file() && file.len() == BYTES;
        if !self.0.symlink_metadata().is_ok_and(whole) && self.take().is_err() {
            let _ = fs::remove_file(&self.0);
        }
    }

    fn take(&self) -> io::Result<()> {
        // A killed command may have left a part of it.
        let _ = fs::remove_file(&self.0);
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&self.0)?;
        // A file system that cannot reserve space gets it written.
        fallocate(&file, FallocateFlags::empty(), 0, BYTES)
            .or_else(|_| file.write_all(&vec![0; BYTES as usize]))
    }

    /// Calls `write`, and if that finds no space, frees the reserve and calls it again.
    pub fn spend<T>(&self, mut write: impl FnMut() -> anyhow::Result<T>) -> anyhow::Result<T> {
        let written = write();
        let full = written.as_ref().is_err_and(lacks_space);
        if !full || fs::remove_file(&self.0).is_err() {
            return written;
        }
        let written = write();
        // At once, before a guest takes the space.
        self.ensure();
        written
    }
}

fn lacks_space(error: &anyhow::Error) -> bool {
    let number = error.downcast_ref::<io::Error>().and_then(io::Error::raw_os_error);
    number.is_some_and(|number| matches!(Errno::from_raw(number), Errno::ENOSPC | Errno::EDQUOT))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    #[test]
    fn it_is_spent_if_the_disk_is_full_and_reserved_again() {
        let dir = tempfile::tempdir().unwrap();
        let reserve = DiskReserve::of(dir.path());
        reserve.ensure();
        let held = reserve.0.metadata().unwrap();
        assert!(held.blocks() * 512 >= BYTES && held.mode() & 0o777 == 0o600);

        let full = || anyhow::Error::new(io::Error::from(Errno::ENOSPC)).context("cannot write");
        let write = || if reserve.0.exists() { Err(full()) } else { Ok("written") };
        assert_eq!(reserve.spend(write).unwrap(), "written");
        assert!(reserve.0.exists());

        fs::write(&reserve.0, "begun").unwrap();
        reserve.ensure();
        assert_eq!(reserve.0.metadata().unwrap().len(), BYTES);

        let mut tries = 0;
        let broken: anyhow::Result<()> = reserve.spend(|| {
            tries += 1;
            anyhow::bail!("something else")
        });
        assert!(broken.is_err() && tries == 1);
    }
}
