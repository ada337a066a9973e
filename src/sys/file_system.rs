//! Properties of file systems.

use std::io::{self, ErrorKind};
use std::os::fd::AsFd;
use std::path::Path;

use rustix::fs::{FileType, OFlags, StatVfs, fstatfs, fstatvfs, makedev, stat, statfs, statvfs};

/// The longest name of one file on Linux, in bytes.
pub const NAME_MAX: usize = 255;

/// The longest path and the longest target of a link on Linux, in bytes.
pub const PATH_MAX: usize = 4096;

/// Opens a directory, and no link to one.
pub const OPEN_DIRECTORY: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// Bytes that an ordinary user may still write in the file system of `path`.
pub fn free_at(path: &Path) -> io::Result<u64> {
    Ok(free(&statvfs(path)?))
}

/// Bytes that an ordinary user may still write in the file system of an open file.
pub fn free_around(file: impl AsFd) -> io::Result<u64> {
    Ok(free(&fstatvfs(file)?))
}

/// `None` for a file that does not exist.
pub fn if_exists<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        result => result.map(Some),
    }
}

/// Whether the file system of an open file has no disk: it is a tmpfs or a ramfs.
pub fn is_in_memory(file: impl AsFd) -> io::Result<bool> {
    /// Of `linux/magic.h`.
    const IN_MEMORY: [u32; 2] = [0x0102_1994, 0x8584_58f6];
    Ok(IN_MEMORY.contains(&(fstatfs(file)?.f_type as u32)))
}

/// Whether what is at `directory` shows the state or the devices of the kernel, and stores no files.
pub fn is_kernels(directory: &Path) -> io::Result<bool> {
    /// Of `linux/magic.h`: proc, sysfs, devpts, cgroup, cgroup2, securityfs, selinuxfs, smackfs, debugfs, tracefs,
    /// bpf, configfs, pstore, efivarfs, mqueue, hugetlbfs, binfmt_misc, fusectl, nsfs, rpc_pipefs, nfsd, resctrl
    /// and autofs.
    const KERNELS: [u32; 23] = [
        0x9fa0,
        0x6265_6572,
        0x1cd1,
        0x0027_e0eb,
        0x6367_7270,
        0x7363_6673,
        0xf97c_ff8c,
        0x4341_5d53,
        0x6462_6720,
        0x7472_6163,
        0xcafe_4a11,
        0x6265_6570,
        0x6165_676c,
        0xde5e_81e4,
        0x1980_0202,
        0x9584_58f6,
        0x4249_4e4d,
        0x6573_5543,
        0x6e73_6673,
        0x6759_6969,
        0x6e66_7364,
        0x0765_5821,
        0x0187,
    ];
    if KERNELS.contains(&(statfs(directory)?.f_type as u32)) {
        return Ok(true);
    }
    // devtmpfs, and what containers have instead, are tmpfs for statfs(2).
    let null = stat(directory.join("null"));
    Ok(null.is_ok_and(|null| {
        FileType::from_raw_mode(null.st_mode) == FileType::CharacterDevice
            && null.st_rdev == makedev(1, 3)
    }))
}

/// The name of the network file system that `path` is on; `None` for a local one.
pub fn network_at(path: &Path) -> io::Result<Option<&'static str>> {
    Ok(network(statfs(path)?.f_type as u32))
}

/// The network file system with this number in `f_type`. FUSE may be local, but often it is sshfs or another
/// network's.
fn network(number: u32) -> Option<&'static str> {
    // Of `linux/magic.h` and statfs(2), or else of the file system's own source.
    Some(match number {
        0x6969 => "NFS",
        0x517b | 0xff53_4d42 | 0xfe53_4d42 => "SMB",
        0x5346_414f | 0x6b41_4653 => "AFS",
        0x0bd0_0bd0 => "Lustre",
        0x4750_4653 => "GPFS",
        0x00c3_6400 => "CephFS",
        0x1983_0326 => "BeeGFS",
        0xaad7_aaea => "PanFS",
        0x0116_1970 => "GFS2",
        0x7461_636f => "OCFS2",
        0x0102_1997 => "9p",
        0x7375_7245 => "Coda",
        0x6573_5546 => "FUSE",
        _ => return None,
    })
}

fn free(system: &StatVfs) -> u64 {
    system.f_bavail.saturating_mul(system.f_frsize)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_systems_of_networks_are_known_by_their_numbers() {
        let networks = [
            (0x6969, "NFS"),
            (0xff53_4d42, "SMB"),
            (0xfe53_4d42, "SMB"),
            (0x5346_414f, "AFS"),
            (0x0bd0_0bd0, "Lustre"),
            (0x4750_4653, "GPFS"),
            (0x00c3_6400, "CephFS"),
            (0x1983_0326, "BeeGFS"),
            (0x6573_5546, "FUSE"),
            (0x0102_1997, "9p"),
        ];
        for (number, name) in networks {
            assert_eq!(network(number), Some(name), "{number:#x}");
        }
        // ext4, XFS, btrfs, tmpfs, overlayfs, ZFS, bcachefs.
        let local =
            [0xef53, 0x5846_5342, 0x9123_683e, 0x0102_1994, 0x794c_7630, 0x2fc1_2fc1, 0xca45_1a4e];
        for number in local {
            assert_eq!(network(number), None, "{number:#x}");
        }
        assert_eq!(network_at(Path::new("/proc")).unwrap(), None);
    }
}
