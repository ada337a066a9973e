//! Control groups of VMs: which kind this host has, and how they go.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rustix::fs::{Access, access};

/// The group above those of all VMs. It stays: somebody else may be about to make one below it.
pub const PARENT: &str = "mayfly";

/// What is limited.
const CONTROLLERS: [&str; 3] = ["cpu", "memory", "pids"];

/// How long the kernel may take to let go of a group whose processes are dead.
const PATIENCE: Duration = Duration::from_secs(2);

/// The groups a VMM can be put into.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CgroupHierarchy {
    /// A tree for each controller.
    V1,
    /// One for all.
    V2,
}

/// Where control groups are mounted, and for what.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Mount {
    hierarchy: CgroupHierarchy,
    at: PathBuf,
    /// Of version 1: among other options, what it controls.
    options: String,
}

/// The kind of control groups by which this host can limit CPU, memory and processes, and this user
/// may do so; `None` if there is none.
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

/// Removes the groups of this name, once nothing is in them. Where there are none, that is no error.
pub fn remove(name: &str) -> Result<()> {
    for path in groups(name) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match fs::remove_dir(&path) {
                Err(error) if error.kind() == ErrorKind::NotFound => break,
                Err(error)
                    if error.kind() == ErrorKind::ResourceBusy && Instant::now() < deadline =>
                {
                    std::thread::sleep(Duration::from_millis(1));
                }
                removed => {
                    removed.with_context(|| format!("cannot remove {}", path.display()))?;
                    break;
                }
            }
        }
    }
    Ok(())
}

/// The groups of this name that exist.
pub fn groups(name: &str) -> Vec<PathBuf> {
    let at = |mount: Mount| mount.at.join(PARENT).join(name);
    mounts().unwrap_or_default().into_iter().map(at).filter(|path| path.exists()).collect()
}

fn mounts() -> Result<Vec<Mount>> {
    let text = fs::read_to_string("/proc/self/mounts").context("cannot read the list of mounts")?;
    Ok(parse(&text))
}

/// Lines of `device place type options 0 0`.
fn parse(text: &str) -> Vec<Mount> {
    let parse_line = |line: &str| {
        let mut fields = line.split(' ');
        let (_, at, kind, options) =
            (fields.next()?, fields.next()?, fields.next()?, fields.next()?);
        let hierarchy = match kind {
            "cgroup" => CgroupHierarchy::V1,
            "cgroup2" => CgroupHierarchy::V2,
            _ => return None,
        };
        Some(Mount { hierarchy, at: Path::new(at).to_owned(), options: options.to_owned() })
    };
    text.lines().filter_map(parse_line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_versions_are_found_among_other_mounts() {
        let text = "proc /proc proc rw 0 0\n\
                    cgroup /sys/fs/cgroup/memory cgroup rw,relatime,memory 0 0\n\
                    cgroup2 /sys/fs/cgroup/unified cgroup2 rw,relatime 0 0\n";
        let mount = |hierarchy, at: &str, options: &str| Mount {
            hierarchy,
            at: at.into(),
            options: options.into(),
        };
        let expected = [
            mount(CgroupHierarchy::V1, "/sys/fs/cgroup/memory", "rw,relatime,memory"),
            mount(CgroupHierarchy::V2, "/sys/fs/cgroup/unified", "rw,relatime"),
        ];
        assert_eq!(parse(text), expected);
    }

    #[test]
    fn what_is_not_there_is_removed_already() {
        remove("no-such-vm").unwrap();
    }
}
