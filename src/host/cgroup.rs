//! Control groups of VMs: which version this host has, and removing them.

use std::ffi::OsString;
use std::fs;
use std::io::ErrorKind;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rustix::fs::{Access, access};

use crate::sys::file_system::if_exists;

/// The parent of all VMs' groups. It is never removed: another command may be about to create a group in it.
pub const PARENT: &str = "mayfly";

/// The controllers that limit a VMM.
const CONTROLLERS: [&str; 3] = ["cpu", "memory", "pids"];

/// How long the kernel may take until a group whose processes have ended can be removed.
const REMOVAL_LIMIT: Duration = Duration::from_secs(2);

/// The version of control groups.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CgroupHierarchy {
    /// One hierarchy for each controller.
    V1,
    /// One hierarchy for all controllers.
    V2,
}

/// A mount point of control groups.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Mount {
    hierarchy: CgroupHierarchy,
    at: PathBuf,
    /// In version 1, the controllers are among them.
    options: String,
}

/// The version of control groups with which this user can limit CPU, memory and processes; `None` if that is
/// not possible.
pub fn usable() -> Option<CgroupHierarchy> {
    let mounts = mounts().ok()?;
    let has = |words: &str, wanted: &str| words.split([',', ' ', '\n']).any(|word| word == wanted);
    let can_write = |mount: &&Mount| access(&mount.at, Access::WRITE_OK).is_ok();
    let (v1, v2): (Vec<&Mount>, Vec<&Mount>) =
        mounts.iter().filter(can_write).partition(|mount| mount.hierarchy == CgroupHierarchy::V1);
    let controlled = v2
        .first()
        .and_then(|mount| fs::read_to_string(mount.at.join("cgroup.controllers")).ok())
        .unwrap_or_default();
    if CONTROLLERS.iter().all(|controller| has(&controlled, controller)) {
        return Some(CgroupHierarchy::V2);
    }
    let all =
        CONTROLLERS.iter().all(|controller| v1.iter().any(|mount| has(&mount.options, controller)));
    all.then_some(CgroupHierarchy::V1)
}

/// Removes the groups of this name when their processes have ended. It is no error if there are none.
///
/// # Errors
/// A group still has processes after 2 s, or cannot be removed.
pub fn remove(name: &str) -> Result<()> {
    for path in groups(name) {
        let deadline = Instant::now() + REMOVAL_LIMIT;
        let mut removed = fs::remove_dir(&path);
        while removed.as_ref().is_err_and(|error| error.kind() == ErrorKind::ResourceBusy)
            && Instant::now() < deadline
        {
            std::thread::sleep(Duration::from_millis(1));
            removed = fs::remove_dir(&path);
        }
        if_exists(removed).with_context(|| format!("cannot remove {}", path.display()))?;
    }
    Ok(())
}

/// The existing groups of this name.
pub fn groups(name: &str) -> Vec<PathBuf> {
    let at = |mount: Mount| mount.at.join(PARENT).join(name);
    mounts().unwrap_or_default().into_iter().map(at).filter(|path| path.exists()).collect()
}

/// Whether the kernel has ended a process in this process's group, because the memory limit of the group or of one above
/// it was reached.
pub fn has_lacked_memory() -> bool {
    let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    mounts().unwrap_or_default().iter().any(|mount| {
        let (file, group) = match mount.hierarchy {
            CgroupHierarchy::V1 => ("memory.oom_control", group_of(&groups, "memory")),
            CgroupHierarchy::V2 => ("memory.events", group_of(&groups, "")),
        };
        let Some(group) = group else { return false };
        let counts = fs::read_to_string(mount.at.join(group.trim_start_matches('/')).join(file));
        let counts = counts.unwrap_or_default();
        let killed = counts.lines().find_map(|line| line.strip_prefix("oom_kill "));
        killed.is_some_and(|count| count != "0")
    })
}

/// This process's group of a controller, in the text of `/proc/self/cgroup`; version 2 has no name for its only one.
fn group_of<'a>(groups: &'a str, controller: &str) -> Option<&'a str> {
    groups.lines().find_map(|line| {
        let (controllers, group) = line.split_once(':')?.1.split_once(':')?;
        controllers.split(',').any(|one| one == controller).then_some(group)
    })
}

fn mounts() -> Result<Vec<Mount>> {
    Ok(parse(&fs::read("/proc/self/mounts").context("cannot read the list of mounts")?))
}

/// Parses lines of `DEVICE PATH TYPE OPTIONS 0 0`. Paths may be any bytes; the kernel writes blanks and newlines
/// in them as octal escapes.
fn parse(text: &[u8]) -> Vec<Mount> {
    let parse_line = |line: &[u8]| {
        let mut fields = line.split(|&byte| byte == b' ');
        let (_, at, kind, options) =
            (fields.next()?, fields.next()?, fields.next()?, fields.next()?);
        let hierarchy = match kind {
            b"cgroup" => CgroupHierarchy::V1,
            b"cgroup2" => CgroupHierarchy::V2,
            _ => return None,
        };
        let at = OsString::from_vec(unescape(at)).into();
        Some(Mount { hierarchy, at, options: String::from_utf8_lossy(options).into_owned() })
    };
    text.split(|&byte| byte == b'\n').filter_map(parse_line).collect()
}

/// Replaces escapes: a backslash and three octal digits, as of each backslash itself.
fn unescape(text: &[u8]) -> Vec<u8> {
    let mut bytes = text.iter().copied();
    let mut result = Vec::new();
    while let Some(byte) = bytes.next() {
        let mut code = || bytes.by_ref().take(3).fold(0, |code, digit| code << 3 | (digit & 7));
        result.push(if byte == b'\\' { code() } else { byte });
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_versions_are_found_among_other_mounts() {
        let text = b"proc /proc proc rw 0 0\n\
                    /dev/sdb1 /media/caf\xe9 vfat rw 0 0\n\
                    cgroup /sys/fs/cgroup/memory cgroup rw,relatime,memory 0 0\n\
                    cgroup2 /sys/my\\040cgroup cgroup2 rw,relatime 0 0\n";
        let mount = |hierarchy, at: &str, options: &str| Mount {
            hierarchy,
            at: at.into(),
            options: options.into(),
        };
        let expected = [
            mount(CgroupHierarchy::V1, "/sys/fs/cgroup/memory", "rw,relatime,memory"),
            mount(CgroupHierarchy::V2, "/sys/my cgroup", "rw,relatime"),
        ];
        assert_eq!(parse(text), expected);
    }

    #[test]
    fn the_group_of_a_controller_is_found() {
        let groups = "5:cpu,cpuacct:/a:b\n3:memory:/jobs/7\n0::/user.slice\n";
        assert_eq!(group_of(groups, "memory"), Some("/jobs/7"));
        assert_eq!(group_of(groups, "cpuacct"), Some("/a:b"));
        assert_eq!((group_of(groups, ""), group_of("", "")), (Some("/user.slice"), None));
    }

    #[test]
    fn a_missing_group_counts_as_removed() {
        remove("no-such-vm").unwrap();
    }
}
