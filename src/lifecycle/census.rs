//! Which processes belong to VMs, on record or not.
//!
//! A process is known by its VM's directory, which stands in its environment. A jailed VMM has none,
//! and is known by its root directory instead, which it cannot leave.

use std::os::unix::fs::MetadataExt;

use anyhow::Result;

use super::manager::Manager;
use crate::host::directory;
use crate::host::process::{self, Marks};
use crate::model::{ProcessId, VmId};

/// The living processes of one VM.
pub fn of(manager: &Manager, id: &VmId) -> Result<Vec<ProcessId>> {
    let mut marks = Marks::of(manager.mark(id));
    add_jail(manager, id, &mut marks);
    Ok(process::find(&marks)?.into_iter().map(|(process, _)| process).collect())
}

/// The living processes of all VMs that this state directory has or had.
pub fn all(manager: &Manager) -> Result<Vec<(ProcessId, VmId)>> {
    let vms = manager.settings.directories.state.join("vms");
    let mut marks = Marks::below(&vms);
    for id in directory::names(&vms)?.iter().filter_map(|name| name.parse().ok()) {
        add_jail(manager, &id, &mut marks);
    }
    let id_of = |mark: &str| mark.rsplit('/').next()?.parse().ok();
    let found = process::find(&marks)?;
    Ok(found.into_iter().filter_map(|(process, mark)| Some((process, id_of(&mark)?))).collect())
}

fn add_jail(manager: &Manager, id: &VmId, marks: &mut Marks) {
    if let Ok(root) = manager.paths(id).vmm_home(true).symlink_metadata() {
        marks.roots.insert((root.dev(), root.ino()), manager.mark(id));
    }
}
