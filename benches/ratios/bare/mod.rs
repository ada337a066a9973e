//! The floor of measurements with VMs: a VMM with the arguments and files that mayfly gives it, without
//! mayfly.

mod busybox;
mod network;
mod vm;
mod vmm;

use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use mayfly::backend::{
    Backend, BackendPrograms, BackendRequest, BackendVm, MemorySource, MonitorStream,
    StreamPurpose, VmmStart, select,
};
use mayfly::guest::AgentSession;
use mayfly::host::launcher::LaunchSpec;
use mayfly::host::wait::WaitLimit;
use mayfly::host::{directory, socket, sparse};
use mayfly::image::{ImageStore, LockedImage, ProgressLines};
use mayfly::model::{
    BackendChoice, BootFiles, FrozenFiles, NetworkMode, NetworkSettings, VmManifest, VmPaths,
};
use mayfly::settings::load_profiles;
use mayfly::template::TemplateShape;

pub use self::busybox::BusyboxGuest;
pub use self::network::BareNetwork;
pub use self::vm::{BareVm, exec, open};
use self::vmm::Vmm;
use crate::programs;
use crate::samples::ms_since;
use crate::workspace::{Workspace, manifest};

/// The profile to boot, with its default size.
const PROFILE: &str = "debian-base";

/// Longer than any boot; on a busy machine an emulated one takes a minute.
const LIMIT: Duration = Duration::from_secs(180);

/// The name in the guest of a port that the agent does not use.
const RAW_PORT: &str = "raw";

/// Boots and restores bare VMs on one backend.
pub struct BareLauncher {
    backend: Box<dyn Backend>,
    boot: BootFiles,
    manifest: VmManifest,
    image: LockedImage,
}

impl BareLauncher {
    /// Builds the image if there is none with the agent that is measured. With `jailed`, VMs are in a jail
    /// if root runs the benchmark.
    pub fn prepare(choice: BackendChoice, jailed: bool) -> Result<BareLauncher> {
        let agent = programs::agent();
        let programs = BackendPrograms {
            qemu: "qemu-system-x86_64".into(),
            firecracker: "firecracker".into(),
            jailer: "jailer".into(),
            directory: Workspace::artifacts().join("bin"),
        };
        let backend = select(
            BackendRequest { choice, no_jailer: !jailed, ..BackendRequest::default() },
            &programs,
        )?;
        let profiles = load_profiles(&Workspace::artifacts(), None)?;
        let profile = &profiles.profiles[PROFILE];
        let store = ImageStore::open(&Workspace::artifacts(), None)?;
        let image = store
            .ensure(profile, &agent, &mut ProgressLines::default())
            .context("cannot build the image to boot")?;
        image.verify()?;
        let mut manifest = VmManifest {
            profile: profile.name.clone(),
            vcpu_count: profile.vcpu_count,
            mem_mib: profile.mem_mib,
            backend: backend.kind(),
            accelerator: backend.accelerator(),
            image: image.id(),
            ..manifest()?
        };
        backend.describe(&mut manifest);
        manifest.vmm_uid = manifest.jailed.then_some(profiles.limits.vmm_uid.min as u32);
        Ok(BareLauncher { backend, boot: image.boot_files(), manifest, image })
    }

    /// The shape of these VMs, described by a template's text.
    pub fn shape(&self, text: String) -> TemplateShape {
        TemplateShape::new(&self.manifest, self.image.info(), text)
    }

    /// Boots a VM and waits for the agent. With `raw`, the VM has an additional port that the agent does
    /// not use.
    pub fn boot(&self, workspace: &Workspace, raw: bool) -> Result<BareVm> {
        let paths = self.prepare_directories(workspace)?;
        sparse::clone_file(&self.image.disk_seed(), &paths.disk())?;
        let machine = BackendVm::new(&self.manifest, &paths, Some(&self.boot));
        let mut start = self.backend.launch(machine)?;
        if raw {
            add_raw_port(&mut start.launch, &paths)?;
        }
        let begun = Instant::now();
        let (vmm, session) = self.bring_up(machine, start)?;
        Ok(BareVm { _vmm: vmm, _network: None, ready_ms: ms_since(begun), session, paths })
    }

    /// Boots a VM on QEMU with a network that is not mayfly's, but has the same addresses.
    pub fn boot_with_network(
        &self,
        workspace: &Workspace,
        network: &BareNetwork,
    ) -> Result<BareVm> {
        let paths = self.prepare_directories(workspace)?;
        sparse::clone_file(&self.image.disk_seed(), &paths.disk())?;
        let settings = NetworkSettings { mode: NetworkMode::Egress, ..NetworkSettings::default() };
        let manifest = VmManifest { network: settings, ..self.manifest.clone() };
        let machine = BackendVm::new(&manifest, &paths, Some(&self.boot));
        let mut start = self.backend.launch(machine)?;
        let process = network.attach(&mut start)?;
        let begun = Instant::now();
        let (vmm, session) = self.bring_up(machine, start)?;
        Ok(BareVm { _vmm: vmm, _network: process, ready_ms: ms_since(begun), session, paths })
    }

    /// Starts a copy of a frozen VM and waits for the agent. The time includes copying the disk, which
    /// every restore needs, but not mayfly's preparations for the VMM.
    pub fn restore(&self, workspace: &Workspace, frozen: &FrozenFiles) -> Result<BareVm> {
        let paths = self.prepare_directories(workspace)?;
        let begun = Instant::now();
        sparse::clone_file(&frozen.disk, &paths.disk())?;
        let copied_ms = ms_since(begun);
        let memory = MemorySource::Frozen(frozen);
        let machine =
            BackendVm { memory, ..BackendVm::new(&self.manifest, &paths, Some(&self.boot)) };
        let start = self.backend.launch(machine)?;
        let begun = Instant::now();
        let (vmm, session) = self.bring_up(machine, start)?;
        let ready_ms = copied_ms + ms_since(begun);
        Ok(BareVm { _vmm: vmm, _network: None, ready_ms, session, paths })
    }

    /// Makes the directories of a VM, and deletes the previous VM's disk.
    fn prepare_directories(&self, workspace: &Workspace) -> Result<VmPaths> {
        let base = workspace.path("bare");
        let paths = VmPaths::new(&base.join("s"), &base.join("r"), &self.manifest.vm_id);
        for path in [&paths.dir, &paths.run] {
            directory::ensure_private(path)?;
        }
        let _ = std::fs::remove_file(paths.disk());
        Ok(paths)
    }

    fn bring_up(&self, machine: BackendVm, start: VmmStart) -> Result<(Vmm, AgentSession)> {
        // Dropped, and so killed, if this fails.
        let vmm = if machine.manifest.jailed {
            Vmm::in_jail(start.launch, &machine.manifest.vm_id)?
        } else {
            Vmm::without_jail(start.launch)?
        };
        let session = self.connect(machine, &start.monitor)?;
        Ok((vmm, session))
    }

    /// Opens a session with the agent of a VM that is starting.
    fn connect(&self, machine: BackendVm, monitor: &MonitorStream) -> Result<AgentSession> {
        let mut wait = WaitLimit::within(LIMIT);
        if let MemorySource::Frozen(_) = machine.memory {
            self.backend.thaw(machine, monitor, &mut wait)?;
        }
        let dialled = self.backend.dial(machine, StreamPurpose::Session, &mut wait)?;
        AgentSession::open(dialled.channel, dialled.dirty, &mut wait)
    }
}

fn add_raw_port(launch: &mut LaunchSpec, paths: &VmPaths) -> Result<()> {
    let listener = socket::listen(&paths.run.join(RAW_PORT))?;
    launch.program.args.extend([
        "-chardev".into(),
        format!("socket,id=raw,fd={},server=on,wait=off", listener.as_raw_fd()),
        "-device".into(),
        format!("virtserialport,chardev=raw,name={RAW_PORT}"),
    ]);
    launch.files.push(listener.into());
    Ok(())
}
