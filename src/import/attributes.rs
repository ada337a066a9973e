//! Owner, mode, time and extended attributes of files in a root file system.

use std::ffi::{OsStr, OsString};
use std::os::fd::BorrowedFd;
use std::os::unix::ffi::OsStrExt;

use anyhow::Result;
use rustix::fs::{
    AtFlags, Gid, Mode, Stat, Timespec, Timestamps, Uid, XattrFlags, chownat, fchmod, fchown,
    fgetxattr, flistxattr, fsetxattr, utimensat,
};
use rustix::io::Errno;

use super::late_times::{FIRST, LAST, LAST_OF_32_BITS};
use crate::model::{Refusal, RefusalKind};

/// Extended attributes that are kept because they mean something to the guest. SELinux labels and the
/// notes of overlayfs do not.
const KEPT: [&[u8]; 4] =
    [b"security.capability", b"user.", b"system.posix_acl_access", b"system.posix_acl_default"];

/// The longest list of names and the longest value of an extended attribute on Linux, in bytes.
const XATTR_MAX: usize = 1 << 16;

/// The attributes of a file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EntryAttributes {
    /// Permissions with the set-id and sticky bits.
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    /// Seconds since 1970.
    pub mtime: i64,
    /// Extended attributes by name.
    pub extended: Vec<(OsString, Vec<u8>)>,
}

impl EntryAttributes {
    /// Those of a file that root owns.
    pub fn plain(mode: u32) -> EntryAttributes {
        EntryAttributes { mode, ..EntryAttributes::default() }
    }

    /// Those of a file on this host, without extended ones.
    pub fn of(stat: &Stat) -> EntryAttributes {
        EntryAttributes {
            mode: stat.st_mode & 0o7777,
            uid: stat.st_uid,
            gid: stat.st_gid,
            mtime: stat.st_mtime,
            extended: Vec::new(),
        }
    }

    /// Adds the extended attributes that an open file has and that are kept.
    pub fn with_extended(mut self, file: BorrowedFd) -> Result<EntryAttributes> {
        let mut names = vec![0; XATTR_MAX];
        let length = match flistxattr(file, &mut names) {
            Err(Errno::NOTSUP) => return Ok(self),
            length => length?,
        };
        for name in names[..length].split(|&byte| byte == 0).filter(|name| is_kept(name)) {
            let mut value = vec![0; XATTR_MAX];
            let length = fgetxattr(file, OsStr::from_bytes(name), &mut value)?;
            value.truncate(length);
            self.extended.push((OsStr::from_bytes(name).to_owned(), value));
        }
        Ok(self)
    }

    /// Sets owner, mode and extended attributes of an open file. `lost` is called with the names of those
    /// that the file system does not take.
    ///
    /// # Errors
    /// `Host` if the owner cannot be set, and those of the file system.
    pub fn apply(&self, file: BorrowedFd, lost: &mut dyn FnMut(&OsString)) -> Result<()> {
        let (uid, gid) = self.owner();
        // First, because changing the owner removes set-id bits and capabilities.
        fchown(file, Some(uid), Some(gid)).map_err(|errno| self.unowned(errno))?;
        fchmod(file, Mode::from_raw_mode(self.mode))?;
        for (name, value) in &self.extended {
            match fsetxattr(file, name, value, XattrFlags::empty()) {
                Err(Errno::NOTSUP | Errno::PERM | Errno::INVAL | Errno::NOSPC | Errno::RANGE) => {
                    lost(name);
                }
                set => set?,
            }
        }
        Ok(())
    }

    /// Sets the owner of a file in a directory, without following a link.
    ///
    /// # Errors
    /// Those of [`EntryAttributes::apply`].
    pub fn own(&self, parent: BorrowedFd, name: &OsStr) -> Result<()> {
        let (uid, gid) = self.owner();
        chownat(parent, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)
            .map_err(|errno| self.unowned(errno))
    }

    /// Sets the time of a file in a directory, without following a link.
    pub fn set_time(&self, parent: BorrowedFd, name: &OsStr) -> Result<(), Errno> {
        utimensat(parent, name, &timestamps(self.mtime), AtFlags::SYMLINK_NOFOLLOW)
    }

    fn owner(&self) -> (Uid, Gid) {
        (Uid::from_raw(self.uid), Gid::from_raw(self.gid))
    }

    /// Why the owner could not be set.
    fn unowned(&self, errno: Errno) -> anyhow::Error {
        let EntryAttributes { uid, gid, .. } = self;
        match errno {
            Errno::INVAL | Errno::PERM => Refusal::new(
                RefusalKind::Host,
                format!("it belongs to user {uid} and group {gid}, and you have no subordinate ids for them"),
            )
            .hint("import it as root, or give yourself more subordinate ids: usermod --add-subuids, --add-subgids")
            .into(),
            errno => errno.into(),
        }
    }
}

/// An access and a modification time, the nearest to `mtime` that a file system of mke2fs can keep. It keeps 32 bits of an
/// access time, which no archive tells.
pub fn timestamps(mtime: i64) -> Timestamps {
    let time = |last| Timespec { tv_sec: mtime.clamp(FIRST, last), tv_nsec: 0 };
    Timestamps { last_access: time(LAST_OF_32_BITS), last_modification: time(LAST) }
}

/// Whether an extended attribute of this name is kept.
pub fn is_kept(name: &[u8]) -> bool {
    let matches = |kept: &&[u8]| {
        if kept.ends_with(b".") { name.starts_with(kept) } else { name == *kept }
    };
    // A null byte would end the name early.
    !name.contains(&0) && KEPT.iter().any(matches)
}
