//! What is checked before a VM is created.

use std::time::Duration;

use anyhow::Result;

use super::request::CreateRequest;
use crate::backend::{self, Backend, BackendRequest};
use crate::lifecycle::manager::VmManager;
use crate::model::profile::DISK_MIB;
use crate::model::{
    BackendChoice, MemMib, Profile, Refusal, RefusalKind, TimeSpan, VmLimits, VmManifest, listed,
};
use crate::registry::RegistryContents;
use crate::settings::Settings;

pub fn check_limits(settings: &Settings, request: &CreateRequest, limits: &VmLimits) -> Result<()> {
    let longest = TimeSpan(Duration::from_secs(limits.ttl_seconds.max));
    if let Some(needed) = request.needed.filter(|needed| needed.0 > longest.0) {
        let place = settings.limit_place("ttl_seconds")?;
        let message = format!(
            "--timeout must be at most {longest}, which is how long a VM may live, not {needed}"
        );
        let hint = format!("raise [limits] ttl_seconds in {place}");
        return Err(Refusal::usage(message).hint(hint).into());
    }
    let check = |key, limit, value: Option<u64>, bounds, shown| {
        let Some(value) = value else { return Ok(()) };
        settings.check_limit(limit, bounds, (&settings.source(key), value), shown)
    };
    let count = |count: u64| count.to_string();
    check("vcpus", "vcpu_count", request.vcpu_count.map(u64::from), limits.vcpu_count, count)?;
    let mem = request.mem.map(|mem| u64::from(mem.0));
    check("mem", "mem_mib", mem, limits.mem_mib, MemMib::shown)?;
    if let Some(disk) = request.disk
        && let Some(problem) =
            DISK_MIB.problem(&settings.source("disk"), disk.0.into(), MemMib::shown)
    {
        return Err(Refusal::usage(problem).into());
    }
    let ttl = request.ttl.map(TimeSpan::seconds);
    check("ttl", "ttl_seconds", ttl, limits.ttl_seconds, TimeSpan::shown)
}

pub fn choose_backend(
    manager: &VmManager,
    profile: &Profile,
    request: &CreateRequest,
) -> Result<Box<dyn Backend>> {
    let settings = &manager.settings;
    let backend_request = BackendRequest {
        choice: settings.flags.backend,
        accelerator: settings.flags.accel,
        nested: profile.nested,
        no_jailer: request.no_jailer,
    };
    let backend = backend::select(backend_request, &manager.programs())?;
    let required = request.require.unwrap_or(profile.require).max(profile.require);
    let isolation = backend.accelerator().isolation();
    if isolation >= required {
        return Ok(backend);
    }
    let offered = match settings.flags.backend {
        BackendChoice::Auto => "the best backend here".to_owned(),
        named => format!("the {named} backend"),
    };
    let message = format!("{required} isolation is required, and {offered} offers {isolation}");
    Err(Refusal::new(RefusalKind::Host, message)
        .hint("'mayfly doctor' shows what this host lacks; '--require' accepts less")
        .into())
}

pub fn check_name(contents: &RegistryContents, request: &CreateRequest) -> Result<(), Refusal> {
    request.name.as_ref().map_or(Ok(()), |name| contents.check_name(name, None))
}

/// Refuses one more VM of a user. Those of the pool do not count.
///
/// # Errors
/// `LimitReached`.
pub fn check_room(contents: &RegistryContents, limits: &VmLimits) -> Result<(), Refusal> {
    let max = limits.max_active_vms;
    let of_users = contents.vms.values().map(|vm| &vm.manifest).filter(|vm| !vm.in_pool);
    let mut vms: Vec<&VmManifest> = of_users.collect();
    if vms.len() < max as usize {
        return Ok(());
    }
    vms.sort_by(|a, b| a.created_at.total_cmp(&b.created_at));
    let refusal = |message| Refusal::new(RefusalKind::LimitReached, message);
    Err(match vms.first() {
        None => refusal(format!("max active VMs reached ({max})"))
            .hint("MAYFLY_MAX_ACTIVE_VMS allows more"),
        Some(oldest) => {
            let there = match vms.len() {
                1 => "there is 1 VM".into(),
                count => format!("there are {count} VMs"),
            };
            let names = listed(vms.iter().map(|vm| vm.display_name()));
            refusal(format!("max active VMs reached ({max}): {there}, {names}")).hint(format!(
                "'mayfly rm {}' deletes the oldest, '--wait-slot 10m' waits for a place, \
                 MAYFLY_MAX_ACTIVE_VMS allows more",
                oldest.display_name()
            ))
        }
    })
}
