//! `create`: reserving a VM and preparing what it needs to start.

mod checks;
mod request;

pub use request::{CreateRequest, PoolUse};

use std::collections::BTreeSet;

use anyhow::{Context, Result};

use self::checks::{check_limits, check_name, check_room, choose_backend};
use super::guest::{CopyRoom, defaults};
use super::manager::{LOCK_TIMEOUT, VmManager};
use super::network::check_backend;
use super::pool::take::{self, TakenVm};
use super::recover::reap::reap_expired;
use super::remove::remove_settled;
use super::slot;
use super::start::shape_of;
use crate::backend::{Backend, installed_agent};
use crate::host::lock::FileLock;
use crate::host::{clock, directory, process, socket};
use crate::image::{LockedImage, ProgressSink};
use crate::model::record::reason;
use crate::model::{
    NetworkReport, NetworkSettings, PoolKind, Profile, Refusal, RefusalKind, TimeSpan, ValueRange,
    VmExpiry, VmId, VmLimits, VmManifest, VmPhase, VmRecord,
};
use crate::registry::{RegistryChange, RegistryContents, write_manifest};
use crate::sys::random;
use crate::template::TemplateShape;

/// Seconds that a VM gets in addition to the time it is needed for, to start and to copy files. The deadline of an
/// emulated boot is three minutes.
const PREPARATION: u64 = 300;

/// A VM that was created, or taken from the pool.
#[derive(Debug)]
pub enum NewVm {
    Created(VmRecord),
    Taken(TakenVm),
}

impl NewVm {
    pub fn record(&self) -> &VmRecord {
        match self {
            NewVm::Created(record) | NewVm::Taken(TakenVm { record, .. }) => record,
        }
    }

    pub fn into_record(self) -> VmRecord {
        match self {
            NewVm::Created(record) | NewVm::Taken(TakenVm { record, .. }) => record,
        }
    }
}

/// Creates a VM: checks the request, deletes expired VMs, builds the image if it is missing, reserves a
/// place among the active VMs, and prepares the VM's files. If the request allows it, takes a VM from the pool instead.
///
/// # Errors
/// `Usage` for values outside the limits, `NotFound` for an unknown profile, `NameTaken`,
/// `LimitReached`, also for copies that cannot fit, and `Host` if no backend satisfies the request.
pub fn create(
    manager: &VmManager,
    request: &CreateRequest,
    progress: &mut dyn ProgressSink,
) -> Result<NewVm> {
    let plan = VmPlan::make(manager, request, progress)?;
    let limits = &manager.settings.profiles()?.limits;
    let take_or_reserve = || match plan.take(manager, request, limits)? {
        Some(taken) => Ok(ReservedVm::Taken(taken)),
        None => plan.reserve(manager, request, limits),
    };
    let reserved = match plan.wait_slot {
        None => take_or_reserve()?,
        Some(limit) => slot::in_turn(manager, limit, progress, || {
            reap_expired(manager)?;
            check_room(manager.registry.read()?.as_ref(), limits)?;
            take_or_reserve()
        })?,
    };
    let (record, lock) = match reserved {
        ReservedVm::Taken(taken) => return Ok(NewVm::Taken(taken)),
        ReservedVm::New(record, lock) => (record, lock),
    };
    let id = record.id().clone();
    let prepared = prepare(manager, &record.manifest, plan.profile).and_then(|()| {
        manager.change(&id, |record| {
            record.finish_create()?;
            Ok(record.clone())
        })
    });
    let created = prepared.or_else(|error| {
        // The caller has not seen this VM yet, so it is deleted.
        remove_settled(manager, record, lock, reason::ABANDONED)
            .with_context(|| format!("while undoing: {error:#}"))?;
        Err(error)
    });
    created.map(NewVm::Created)
}

/// The kind of the VMs that a request is about. Builds the image if it is missing.
///
/// # Errors
/// Those of [`create`]; `Host` if such VMs cannot wait in the pool.
pub fn kind_of(
    manager: &VmManager,
    request: &CreateRequest,
    progress: &mut dyn ProgressSink,
) -> Result<PoolKind> {
    let kind = VmPlan::make(manager, request, progress)?.kind()?;
    Ok(kind.ok_or_else(|| {
        Refusal::new(RefusalKind::Host, "VMs of this kind cannot wait in the pool").hint(
            "VMs with published ports are made when they are needed, and so are VMs that do not start from a template",
        )
    })?)
}

/// A place among the VMs.
enum ReservedVm {
    New(VmRecord, FileLock),
    Taken(TakenVm),
}

/// A request that was checked, with what a VM for it is made of.
struct VmPlan<'a> {
    manifest: VmManifest,
    profile: &'a Profile,
    backend: Box<dyn Backend>,
    image: Option<LockedImage>,
    wait_slot: Option<TimeSpan>,
}

impl VmPlan<'_> {
    fn make<'a>(
        manager: &'a VmManager,
        request: &CreateRequest,
        progress: &mut dyn ProgressSink,
    ) -> Result<VmPlan<'a>> {
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
        if wait_slot.is_none() && request.pool != PoolUse::Fill {
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
        let ttl_seconds = match request.pool {
            PoolUse::Fill => profiles.limits.pool_ttl_seconds,
            PoolUse::Nothing | PoolUse::Take => ttl_seconds(request, profile, &profiles.limits),
        };
        let mut manifest =
            manifest(&id, request, profile, ttl_seconds, network, backend.as_ref(), image.as_ref());
        if let Some(image) = &image {
            manifest.disk_mib =
                Some(request.disk.map_or_else(|| image.disk_mib(), |disk| Ok(disk.0))?);
        }
        Ok(VmPlan { manifest, profile, backend, image, wait_slot })
    }

    /// The kind of the VM; `None` if VMs like it do not wait in the pool.
    fn kind(&self) -> Result<Option<PoolKind>> {
        let shape = match &self.image {
            Some(image) => shape_of(&self.manifest, self.backend.as_ref(), image)?,
            None => None,
        };
        Ok(PoolKind::of(&self.manifest, shape.as_ref().map(TemplateShape::name)))
    }

    fn take(
        &self,
        manager: &VmManager,
        request: &CreateRequest,
        limits: &VmLimits,
    ) -> Result<Option<TakenVm>> {
        if request.pool != PoolUse::Take || !take::is_any_waiting(manager)? {
            return Ok(None);
        }
        let Some(kind) = self.kind()? else { return Ok(None) };
        take::take(manager, &kind, &self.manifest, |contents| {
            check_name(contents, request)?;
            check_room(contents, limits)
        })
    }

    fn reserve(
        &self,
        manager: &VmManager,
        request: &CreateRequest,
        limits: &VmLimits,
    ) -> Result<ReservedVm> {
        // Locked before the VM is in the registry, so that no other command takes it for abandoned. A sweep
        // may see the lock file first and hold the lock for a moment.
        let lock = manager.registry.lock_vm(&self.manifest.vm_id, LOCK_TIMEOUT)?;
        match reserve(manager, self.manifest.clone(), request, limits) {
            Ok(record) => Ok(ReservedVm::New(record, lock)),
            Err(error) => {
                lock.remove()?;
                Err(error)
            }
        }
    }
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
    let in_pool = request.pool == PoolUse::Fill;
    let keep = !in_pool && request.keep.unwrap_or(profile.keep);
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
        in_pool,
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
    mut manifest: VmManifest,
    request: &CreateRequest,
    limits: &VmLimits,
) -> Result<VmRecord> {
    manager.registry.update(|contents| {
        check_name(contents, request)?;
        if !manifest.in_pool {
            check_room(contents, limits)?;
        }
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
        Ok((record, RegistryChange::to(&manifest)))
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
