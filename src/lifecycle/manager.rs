//! What every operation works with.

use std::time::Duration;

use anyhow::Result;

use crate::backend::{self, Backend, BackendPrograms, BackendVm, StreamPurpose};
use crate::guest::AgentSession;
use crate::host::directory::DiskUsage;
use crate::host::process;
use crate::host::wait::WaitLimit;
use crate::image::{ImageInfo, ImageStore};
use crate::model::{
    BootId, ProcessLiveness, Refusal, VmId, VmManifest, VmPaths, VmRecord, VmRef, reconcile,
};
use crate::registry::{Registry, RegistryChange, RegistryContents};
use crate::settings::Settings;
use crate::sys::process::PidFd;
use crate::template::TemplateStore;

/// How long a verb waits for a VM that another command works on.
pub const VM_PATIENCE: Duration = Duration::from_secs(20);

/// How long the agent of a running VM may take to answer. It does so within milliseconds; a guest
/// whose every CPU is busy under emulation needs its scheduler to come round.
pub const HELLO: Duration = Duration::from_secs(20);

/// One state directory with everything around it.
#[derive(Debug)]
pub struct VmManager {
    pub settings: Settings,
    pub registry: Registry,
}

impl VmManager {
    /// For verbs that change something: makes the state directory if need be.
    pub fn open(settings: Settings) -> Result<VmManager> {
        let registry = Registry::open(&settings.directories.state)?;
        Ok(VmManager { settings, registry })
    }

    /// For verbs that only look.
    pub fn open_to_read(settings: Settings) -> Result<VmManager> {
        let registry = Registry::open_to_read(&settings.directories.state)?;
        Ok(VmManager { settings, registry })
    }

    /// For looking at places that may not be in order.
    pub fn open_unchecked(settings: Settings) -> VmManager {
        let registry = Registry::at(&settings.directories.state);
        VmManager { settings, registry }
    }

    /// The images; makes their directory if need be.
    pub fn images(&self) -> Result<ImageStore> {
        let settings = &self.settings;
        ImageStore::open(&settings.directories.artifacts, settings.flags.debian_mirror.clone())
    }

    /// The templates; makes their directory if need be.
    pub fn templates(&self) -> Result<TemplateStore> {
        TemplateStore::open(&self.settings.directories.artifacts)
    }

    /// All images with what each takes on the disk. Makes no directory.
    pub fn list_images(&self) -> Result<Vec<(ImageInfo, DiskUsage)>> {
        if !self.settings.directories.artifacts.exists() {
            return Ok(Vec::new());
        }
        let images = self.images()?;
        let with_size = |info: ImageInfo| {
            let usage = images.usage(&info.profile)?;
            Ok((info, usage))
        };
        images.list()?.into_iter().map(with_size).collect()
    }

    /// The templates, if their directory is there. Makes none.
    pub fn templates_if_any(&self) -> Result<Option<TemplateStore>> {
        let there = self.settings.directories.templates().exists();
        there.then(|| self.templates()).transpose()
    }

    pub fn paths(&self, id: &VmId) -> VmPaths {
        VmPaths::new(&self.settings.directories.state, &self.settings.directories.run, id)
    }

    /// The value of [`process::MARK`] in every process of that VM.
    pub fn mark(&self, id: &VmId) -> String {
        self.paths(id).dir.display().to_string()
    }

    /// The id of the VM a user means.
    pub fn resolve(&self, vm: &VmRef) -> Result<VmId> {
        Ok(self.registry.read()?.resolve(vm)?)
    }

    pub fn programs(&self) -> BackendPrograms {
        let flags = &self.settings.flags;
        BackendPrograms {
            qemu: flags.qemu_bin.clone(),
            firecracker: flags.firecracker_bin.clone(),
            jailer: flags.jailer_bin.clone(),
            directory: self.settings.directories.programs(),
        }
    }

    /// The backend a VM was created with.
    pub fn backend_of(&self, manifest: &VmManifest) -> Result<Box<dyn Backend>> {
        backend::of(manifest, &self.programs())
    }

    /// A conversation with the agent of a VM whose VMM runs.
    pub fn open_session(
        &self,
        record: &VmRecord,
        backend: &dyn Backend,
        purpose: StreamPurpose,
        wait: &mut WaitLimit<'_>,
    ) -> Result<AgentSession> {
        let paths = self.paths(record.id());
        let machine = BackendVm::new(&record.manifest, &paths, None);
        let dialled = backend.dial(machine, purpose, wait)?;
        AgentSession::open(dialled.channel, dialled.dirty, wait)
    }

    /// A record as it is: compared with the process it names.
    pub fn observe(&self, record: VmRecord, boot: &BootId) -> Result<VmRecord> {
        let liveness = liveness_of(&record, boot)?;
        Ok(reconcile::observe(record, liveness))
    }

    /// Changes one record, in one transaction.
    pub fn change<T>(
        &self,
        id: &VmId,
        change: impl FnOnce(&mut VmRecord) -> Result<T, Refusal>,
    ) -> Result<T> {
        self.registry.update(|contents: &mut RegistryContents| {
            let result = change(contents.get_mut(id)?)?;
            Ok((result, RegistryChange::Made))
        })
    }

    /// The same for what a VM does on the way up: after another boot of the host it is stopped, however
    /// far it had come.
    pub fn change_on_the_way_up<T>(
        &self,
        id: &VmId,
        change: impl FnOnce(&mut VmRecord) -> Result<T, Refusal>,
    ) -> Result<T> {
        self.registry.update(|contents: &mut RegistryContents| {
            let result = change(contents.get_mut(id)?)?;
            Ok((result, RegistryChange::OfThisBoot))
        })
    }

    /// The handle on a VM's process, if it is alive.
    pub fn process_of(&self, record: &VmRecord) -> Result<Option<PidFd>> {
        match record.state.instance() {
            Some(instance) => process::open(&instance.process),
            None => Ok(None),
        }
    }
}

/// What became of the process on record; `None` where none is recorded.
pub fn liveness_of(record: &VmRecord, boot: &BootId) -> Result<Option<ProcessLiveness>> {
    record.state.instance().map(|instance| process::liveness(&instance.process, boot)).transpose()
}
