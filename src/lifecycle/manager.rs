//! What every operation uses: the settings, the registry, and what is opened through them.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};

use super::liveness::liveness_of;
use crate::backend::{self, Backend, BackendPrograms, BackendVm, StreamPurpose};
use crate::guest::AgentSession;
use crate::host::directory::{self, DiskUsage};
use crate::host::process;
use crate::host::process_marks::ProcessMark;
use crate::host::wait::WaitLimit;
use crate::image::{ImageInfo, ImageStore};
use crate::model::layout::TEMPLATES;
use crate::model::{
    ClockReading, Refusal, RefusalKind, VmId, VmManifest, VmPaths, VmRecord, VmRef, reconcile,
};
use crate::registry::{Registry, RegistryChange};
use crate::settings::{MayflyDirectories, Settings};
use crate::sys::process::PidFd;
use crate::template::TemplateStore;

/// How long a verb waits for the lock of a VM.
pub const LOCK_TIMEOUT: Duration = Duration::from_secs(20);

/// How long the agent of a running VM may take to answer. It usually takes milliseconds, but longer in
/// an emulated guest with all CPUs busy.
pub const AGENT_TIMEOUT: Duration = Duration::from_secs(20);

/// One state directory, with the settings for it.
#[derive(Debug)]
pub struct VmManager {
    pub settings: Settings,
    pub registry: Registry,
    /// Prints a line for the user while an operation waits. By default, nothing is printed.
    pub say: fn(&str),
}

impl VmManager {
    /// For verbs that change something. Creates the state directory if it is missing.
    pub fn open(settings: Settings) -> Result<VmManager> {
        let registry = Registry::open(&settings.directories.state)?;
        Ok(VmManager { settings, registry, say: |_| () })
    }

    /// For verbs that only read.
    pub fn open_to_read(settings: Settings) -> Result<VmManager> {
        let registry = Registry::open_to_read(&settings.directories.state)?;
        Ok(VmManager { settings, registry, say: |_| () })
    }

    /// For diagnosing directories that may not be in order.
    pub fn open_unchecked(settings: Settings) -> VmManager {
        let registry = Registry::at(&settings.directories.state);
        VmManager { settings, registry, say: |_| () }
    }

    /// The images. Creates their directory if it is missing.
    pub fn images(&self) -> Result<ImageStore> {
        let settings = &self.settings;
        ImageStore::open(&settings.directories.artifacts, settings.flags.debian_mirror.clone())
    }

    /// The templates. Creates their directory if it is missing.
    pub fn templates(&self) -> Result<TemplateStore> {
        TemplateStore::open(self.template_base())
    }

    /// The directory that the templates' is in: that of the images, or if this user cannot write there, the state
    /// directory.
    pub fn template_base(&self) -> &Path {
        let MayflyDirectories { artifacts, state, .. } = &self.settings.directories;
        if directory::is_writable(&artifacts.join(TEMPLATES)) { artifacts } else { state }
    }

    /// All images with the disk space they use. Creates no directory.
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

    /// The templates, if their directory exists. Creates none.
    pub fn templates_if_any(&self) -> Result<Option<TemplateStore>> {
        let there = self.template_base().join(TEMPLATES).exists();
        there.then(|| self.templates()).transpose()
    }

    pub fn paths(&self, id: &VmId) -> VmPaths {
        VmPaths::new(&self.settings.directories.state, &self.settings.directories.run, id)
    }

    /// The mark of the VM's processes.
    pub fn mark(&self, id: &VmId) -> Result<ProcessMark> {
        let key = self.registry.mark_key()?.context("the key of the marks is gone")?;
        Ok(ProcessMark::new(&self.paths(id).dir.display().to_string(), &key))
    }

    /// The id of the VM that a user named.
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
        backend::of_manifest(manifest, &self.programs())
    }

    /// Connects to the agent of a VM whose VMM runs.
    pub fn connect(
        &self,
        record: &VmRecord,
        purpose: StreamPurpose,
        wait: &mut WaitLimit<'_>,
    ) -> Result<AgentSession> {
        self.open_session(record, self.backend_of(&record.manifest)?.as_ref(), purpose, wait)
    }

    /// Connects to the agent of a VM of this backend whose VMM runs.
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

    /// A record, corrected by the state of the process it names.
    pub fn observe(&self, record: VmRecord, now: &ClockReading) -> Result<VmRecord> {
        let liveness = liveness_of(&record, now)?;
        Ok(reconcile::observe(record, liveness))
    }

    /// Changes one record, in one transaction.
    pub fn change<T>(
        &self,
        id: &VmId,
        change: impl FnOnce(&mut VmRecord) -> Result<T, Refusal>,
    ) -> Result<T> {
        self.change_durably(id, RegistryChange::to, change)
    }

    /// Changes the record of a VM that is starting. After a reboot of the host, such a VM counts as stopped.
    pub fn change_starting<T>(
        &self,
        id: &VmId,
        change: impl FnOnce(&mut VmRecord) -> Result<T, Refusal>,
    ) -> Result<T> {
        self.change_durably(id, |_| RegistryChange::OfThisBoot, change)
    }

    fn change_durably<T>(
        &self,
        id: &VmId,
        made: impl FnOnce(&VmManifest) -> RegistryChange,
        change: impl FnOnce(&mut VmRecord) -> Result<T, Refusal>,
    ) -> Result<T> {
        let me = process::identify_self()?;
        self.registry.update(|contents| {
            let record = contents.get_mut(id)?;
            let changed = change(record)?;
            record.command = (!record.is_at_rest()).then_some(me);
            Ok((changed, made(&record.manifest)))
        })
    }

    /// A handle on the VM's process, if it is alive.
    pub fn process_of(&self, record: &VmRecord) -> Result<Option<PidFd>> {
        match record.state.instance() {
            Some(instance) => process::open(&instance.process),
            None => Ok(None),
        }
    }

    /// The same for a VM that should be running.
    ///
    /// # Errors
    /// `WrongState` if it has ended.
    pub fn running_vmm(&self, record: &VmRecord) -> Result<PidFd> {
        self.process_of(record)?.ok_or_else(|| {
            let message = format!("VM {} has just ended", record.manifest.display_name());
            Refusal::new(RefusalKind::WrongState, message).into()
        })
    }
}
