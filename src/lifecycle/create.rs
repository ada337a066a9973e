//! `create`: reserving a VM and preparing what it needs to start.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context, Result};

use super::guest::{CopyRoom, CopySize, defaults};
use super::manager::{LOCK_TIMEOUT, VmManager};
use super::network::{NetworkRequest, check_backend};
use super::recover::reap::reap_expired;
use super::remove::remove_settled;
use super::slot;
use crate::backend::{self, Backend, BackendRequest, installed_agent};
use crate::host::{clock, directory, process, socket};
use crate::image::{LockedImage, ProgressSink};
use crate::model::profile::DISK_MIB;
use crate::model::record::reason;
use crate::model::{
    BackendChoice, Isolation, MemMib, NetworkReport, NetworkSettings, ProcessId, Profile, Refusal,
    RefusalKind, TimeSpan, ValueRange, VmExpiry, VmId, VmLabels, VmLimits, VmManifest, VmName,
    VmPhase, VmRecord, listed,
};
use crate::registry::{RegistryChange, RegistryContents, write_manifest};
use crate::settings::Settings;
use crate::sys::random;

/// Seconds that a VM gets in addition to the time it is needed for, to start and to copy files. The deadline of an
/// emulated boot is three minutes.
const PREPARATION: u64 = 300;

/// What a user asked for; `None` means the profile's value.
#[derive(Debug, Clone, Default)]
pub struct CreateRequest {
    pub profile: String,
    pub vcpu_count: Option<u32>,
    pub mem: Option<MemMib>,
    /// The size of its own disk; by default the image's.
    pub disk: Option<MemMib>,
    /// What will be copied into it.
    pub copied: CopySize,
    pub ttl: Option<TimeSpan>,
    /// How long to wait for a place among the active VMs.
    pub wait_slot: Option<TimeSpan>,
    /// The least time that its user needs it for, whatever `ttl` and the profile say.
    pub needed: Option<TimeSpan>,
    pub name: Option<VmName>,
    pub labels: VmLabels,
    pub keep: Option<bool>,
    pub require: Option<Isolation>,
    /// Start Firecracker without its jailer even as root.
    pub no_jailer: bool,
    pub network: NetworkRequest,
    /// The process that the VM is deleted with, unless it is kept.
    pub owner: Option<ProcessId>,
}

/// Creates a VM: checks the request, deletes expired VMs, builds the image if it is missing, reserves a
/// place among the active VMs, and prepares the VM's files.
///
/// # Errors
/// `Usage` for values outside the limits, `NotFound` for an unknown profile, `NameTaken`,
/// `LimitReached`, also for copies that cannot fit, and `Host` if no backend satisfies the request.
pub fn create(
    manager: &VmManager,
    request: &CreateRequest,
    progress: &mut dyn ProgressSink,
) -> Result<VmRecord> {
    let profiles = manager.settings.profiles()?;
    check_limits(&manager.settings, request, &profiles.limits)?;
    request.network.check_limit(&manager.settings)?;
    let profile = manager.settings.profile(&request.profile)?;
    let backend = choose_backend(manager, profile, request)?;

    let network = request.network.over(profile);
    check_backend(&network, backend.as_ref())?;

    reap_expired(manager)?;
    // Checked again by `reserve`. Checked here so that no image is built in vain.
    let contents = manager.registry.read()?;
    check_name(&contents, request)?;
    let wait_slot = request.wait_slot.filter(|limit| !limit.0.is_zero());
    if wait_slot.is_none() {
        check_room(&contents, &profiles.limits)?;
    }
    if !request.copied.is_nothing() {
        let room = if backend.boots_image() {
            CopyRoom::planned(manager, profile, request.disk)
        } else {
            CopyRoom::beside(manager)
        };
        request.copied.check(room, "run")?;
    }
    let image = if backend.boots_image() {
        Some(manager.images()?.ensure(profile, &installed_agent()?, progress)?)
    } else {
        None
    };

    let id = VmId::from_random(random::bytes()?);
    socket::check_length(&manager.paths(&id).longest_socket())?;
    let ttl_seconds = ttl_seconds(request, profile, &profiles.limits);
    let mut manifest =
        manifest(&id, request, profile, ttl_seconds, network, backend.as_ref(), image.as_ref());
    if let Some(image) = &image {
        manifest.disk_mib = Some(request.disk.map_or_else(|| image.disk_mib(), |disk| Ok(disk.0))?);
    }
    let mut lock_and_reserve = || {
        // Locked before the VM is in the registry, so that no other command takes it for abandoned. A sweep
        // may see the lock file first and hold the lock for a moment.
        let lock = manager.registry.lock_vm(&id, LOCK_TIMEOUT)?;
        match reserve(manager, &mut manifest, request, &profiles.limits) {
            Ok(record) => Ok((record, lock)),
            Err(error) => {
                lock.remove()?;
                Err(error)
            }
        }
    };
    let (record, lock) = match wait_slot {
        None => lock_and_reserve()?,
        Some(limit) => slot::in_turn(manager, limit, progress, || {
            reap_expired(manager)?;
            check_room(manager.registry.read()?.as_ref(), &profiles.limits)?;
            lock_and_reserve()
        })?,
    };
    let prepared = prepare(manager, &manifest, profile).and_then(|()| {
        manager.change(&id, |record| {
            record.finish_create()?;
            Ok(record.clone())
        })
    });
    prepared.or_else(|error| {
        // The caller has not seen this VM yet, so it is deleted.
        remove_settled(manager, record, lock, reason::ABANDONED)
            .with_context(|| format!("while undoing: {error:#}"))?;
        Err(error)
    })
}

fn check_limits(settings: &Settings, request: &CreateRequest, limits: &VmLimits) -> Result<()> {
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

/// How long the VM lives: as asked for, but at least as long as it is needed and takes to start, if the limit allows.
fn ttl_seconds(request: &CreateRequest, profile: &Profile, limits: &VmLimits) -> u64 {
    let needed = request.needed.map_or(0, TimeSpan::seconds);
    let enough = if needed > 0 { needed.saturating_add(PREPARATION) } else { 0 };
    let enough = enough.min(limits.ttl_seconds.max);
    match request.ttl.map(TimeSpan::seconds) {
        Some(asked) if asked >= needed => asked,
        asked => asked.unwrap_or(profile.ttl_seconds).max(enough),
    }
}

fn choose_backend(
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

fn check_name(contents: &RegistryContents, request: &CreateRequest) -> Result<(), Refusal> {
    request.name.as_ref().map_or(Ok(()), |name| contents.check_name(name, None))
}

fn check_room(contents: &RegistryContents, limits: &VmLimits) -> Result<(), Refusal> {
    let max = limits.max_active_vms;
    if contents.vms.len() < max as usize {
        return Ok(());
    }
    let mut vms: Vec<&VmManifest> = contents.vms.values().map(|vm| &vm.manifest).collect();
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

fn manifest(
    id: &VmId,
    request: &CreateRequest,
    profile: &Profile,
    ttl_seconds: u64,
    network: NetworkSettings,
    backend: &dyn Backend,
    image: Option<&LockedImage>,
) -> VmManifest {
    let mut metadata = std::collections::BTreeMap::new();
    if let Some(image) = image {
        let files = image.boot_files();
        metadata.insert("kernel_image".into(), files.kernel.display().to_string());
        metadata.insert("rootfs_image".into(), files.rootfs.display().to_string());
    }
    let keep = request.keep.unwrap_or(profile.keep);
    let mut manifest = VmManifest {
        vm_id: id.clone(),
        name: request.name.clone(),
        profile: profile.name.clone(),
        vcpu_count: request.vcpu_count.unwrap_or(profile.vcpu_count),
        mem_mib: request.mem.map_or(profile.mem_mib, |mem| mem.0),
        disk_mib: None,
        ttl_seconds,
        created_at: 0.0,
        backend: backend.kind(),
        accelerator: backend.accelerator(),
        keep,
        image: image.map(LockedImage::id).unwrap_or_default(),
        nested: profile.nested,
        jailed: false,
        vmm_uid: None,
        network,
        network_uid: None,
        owner: request.owner.clone().filter(|_| !keep),
        metadata,
        labels: request.labels.clone(),
    };
    backend.describe(&mut manifest);
    manifest
}

/// Reserves a place in the registry. From here on the VM exists, as `creating`.
fn reserve(
    manager: &VmManager,
    manifest: &mut VmManifest,
    request: &CreateRequest,
    limits: &VmLimits,
) -> Result<VmRecord> {
    manager.registry.update(|contents| {
        check_name(contents, request)?;
        check_room(contents, limits)?;
        // Run as root, mayfly gives every VMM a user of its own.
        let has_vmm = !manifest.image.is_empty();
        if has_vmm && nix::unistd::geteuid().is_root() {
            let mut users = free_uids(contents, &manifest.vm_id, limits.vmm_uid);
            let mut next = || users.next().ok_or_else(|| no_free_uid(limits.vmm_uid));
            manifest.vmm_uid = Some(next()?);
            if !manifest.network.is_none() {
                // What has taken over the VMM can do nothing to the helper.
                manifest.network_uid = Some(next()?);
            }
        }
        // The TTL counts from the reservation, without the time spent building an image or waiting for
        // a lock.
        let now = clock::now()?;
        manifest.created_at = now.unix;
        let record = VmRecord {
            manifest: manifest.clone(),
            expiry: VmExpiry::after(&now, manifest.ttl_seconds),
            state: VmPhase::Creating,
            command: Some(process::identify_self()?),
            waits: None,
            network: NetworkReport::default(),
        };
        contents.vms.insert(manifest.vm_id.clone(), record.clone());
        Ok((record, RegistryChange::Made))
    })
}

/// Host users that no other VM's processes run as. The search starts at an offset derived from the VM's random
/// id, so that VMs of different state directories rarely share a user and users are not reused soon.
fn free_uids(
    contents: &RegistryContents,
    id: &VmId,
    range: ValueRange,
) -> impl Iterator<Item = u32> + use<> {
    let manifests = contents.vms.values().map(|record| &record.manifest);
    let taken: BTreeSet<u32> =
        manifests.flat_map(|vm| [vm.vmm_uid, vm.network_uid]).flatten().collect();
    let count = range.max - range.min + 1;
    let first = id.number() % count;
    (0..count)
        .map(move |step| (range.min + (first + step) % count) as u32)
        .filter(move |uid| !taken.contains(uid))
}

fn no_free_uid(range: ValueRange) -> Refusal {
    let count = range.max - range.min + 1;
    let message = format!("all {count} host users for VMMs are taken");
    Refusal::new(RefusalKind::LimitReached, message)
        .hint("allow more with limits.vmm_uid in your profiles.toml")
}

/// Creates the VM's directory. Its disk is created by the first start, which decides what is on it.
fn prepare(manager: &VmManager, manifest: &VmManifest, profile: &Profile) -> Result<()> {
    let paths = manager.paths(&manifest.vm_id);
    directory::create_new(&paths.dir)?;
    defaults::save(manager, &manifest.vm_id, &profile.command)?;
    write_manifest(&paths.manifest(), manifest)
}
