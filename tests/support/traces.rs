//! Traces of VMs outside their state directories: control groups, jailed processes, mounts.

use std::fs;
use std::path::{Path, PathBuf};

use mayfly::model::VmId;

use super::processes;

/// Describes the traces of VMs that are in no test's state directory. Control groups and jailed processes show a VM's
/// id but not its state directory, so this is for machines where all VMs belong to tests.
pub fn of_nobody() -> Vec<String> {
    let mut found = Vec::new();
    for (path, id) in cgroups() {
        // In this order, a VM that another test deletes meanwhile leaves no trace.
        if !is_known(&id) && path.exists() {
            found.push(path.display().to_string());
        }
    }
    for (pid, id) in processes::firecrackers() {
        if !is_known(&id) && processes::lives(pid) {
            found.push(format!("process {pid}: {}", processes::command_line(pid)));
        }
    }
    found
}

/// The mounts below a directory.
pub fn mounts(below: &Path) -> Vec<String> {
    let below = format!(" {}/", below.display());
    let mounts = fs::read_to_string("/proc/self/mountinfo").expect("/proc can be read");
    mounts.lines().filter(|line| line.contains(&below)).map(str::to_owned).collect()
}

/// The control groups of VMs, with their ids: `mayfly/ID` in the hierarchy of version 2, or in each hierarchy of
/// version 1.
fn cgroups() -> Vec<(PathBuf, String)> {
    let top = Path::new("/sys/fs/cgroup");
    let parents = children(top).into_iter().map(|path| path.join("mayfly"));
    let parents = parents.chain([top.join("mayfly")]);
    parents
        .flat_map(|parent| children(&parent))
        .filter_map(|path| {
            let id: VmId = path.file_name()?.to_str()?.parse().ok()?;
            Some((path, id.as_str().to_owned()))
        })
        .collect()
}

/// Whether a running test has this VM.
fn is_known(id: &str) -> bool {
    let tests = children(Path::new("/tmp"));
    tests.iter().any(|path| path.join("state/vms").join(id).exists())
}

fn children(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).collect()
}
