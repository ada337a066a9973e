//! The VMs that need an image.

use anyhow::Result;

use crate::lifecycle::manager::VmManager;
use crate::model::{ProfileName, Refusal, RefusalKind, VmManifest, VmRecord, listed};

/// A VM's disk is a layer over the root file system it was created with, so the VM cannot start on
/// another. A running VM has its files open and is not affected.
pub(super) fn refuse_if_needed(
    manager: &VmManager,
    profile: &ProfileName,
    doing: &str,
) -> Result<()> {
    let users = users_of(manager, profile)?;
    if users.is_empty() {
        return Ok(());
    }
    let (profile, names) = (profile.as_str(), users.iter().map(VmManifest::display_name));
    let listed = listed(names.clone());
    let message = format!("{doing} the image of {profile:?} would strand its VMs: {listed}");
    let names = names.collect::<Vec<_>>().join(" ");
    Err(Refusal::new(RefusalKind::WrongState, message)
        .hint(format!("delete them first: mayfly rm {names}"))
        .into())
}

/// The VMs that were created from the image of a profile. Those of the pool need it only until they run.
pub(super) fn users_of(manager: &VmManager, profile: &ProfileName) -> Result<Vec<VmManifest>> {
    let contents = manager.registry.read()?;
    let is_user = |record: &&VmRecord| {
        let vm = &record.manifest;
        vm.profile == *profile && !vm.image.is_empty() && !vm.in_pool
    };
    Ok(contents.vms.values().filter(is_user).map(|record| record.manifest.clone()).collect())
}
