//! The floor: a VMM with the very arguments and files that mayfly gives it, and nothing around it.

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
use mayfly::host::gate::LaunchSpec;
use mayfly::host::wait::WaitLimit;
use mayfly::host::{directory, socket, sparse};
use mayfly::image::{ImageStore, LockedImage, ProgressLines};
use mayfly::model::{BackendChoice, BootFiles, FrozenFiles, VmId, VmManifest, VmPaths};
use mayfly::settings::load_profiles;
use mayfly::sys::random;
use mayfly::template::TemplateShape;

pub use self::vm::{BareVm, exec, open};
use self::vmm::Vmm;
use crate::numbers::ms_since;
use crate::programs;
use crate::workspace::Workspace;

/// The profile that is booted, in its default shape.
const PROFILE: &str = "debian-base";

/// Longer than any boot; on a busy machine emulated ones take a minute.
const LIMIT: Duration = Duration::from_secs(180);

/// The name of the port that no agent listens at, in the guest.
const RAW_PORT: &str = "raw";

/// What all bare VMs of a backend boot.
pub struct Bench {
    backend: Box<dyn Backend>,
    boot: BootFiles,
    manifest: VmManifest,
    image: LockedImage,
}

impl Bench {
    /// Makes sure that there is an image, with the agent that is measured. `jailed` VMs are in a jail
    /// where root runs this.
    pub fn prepare(choice: BackendChoice, jailed: bool) -> Result<Bench> {
        let agent = programs::agent();
        let programs = BackendPrograms {
            qemu: "qemu-system-x86_64".into(),
            firecracker: "firecracker".into(),
            jailer: "jailer".into(),
            agent: agent.clone(),
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
        let manifest = VmManifest {
            vm_id: VmId::from_random(random::bytes()?),
            name: None,
            profile: profile.name.clone(),
            vcpu_count: profile.vcpu_count,
            mem_mib: profile.mem_mib,
            ttl_seconds: profile.ttl_seconds,
            created_at: 0.0,
            backend: backend.kind(),
            accelerator: backend.accelerator(),
            keep: false,
            image: image.id(),
            nested: false,
            jailed: backend.is_jailed(),
            vmm_uid: backend.is_jailed().then_some(profiles.limits.vmm_uid.min as u32),
            owner: None,
            metadata: Default::default(),
            labels: Default::default(),
        };
        Ok(Bench { backend, boot: image.boot_files(), manifest, image })
    }

    /// The shape of these VMs, which a template says in these words.
    pub fn shape(&self, text: String) -> TemplateShape {
        TemplateShape::new(&self.manifest, self.image.info(), text)
    }

    /// Boots a VM and waits for the agent. With `raw`, the machine has one more port, which the agent
    /// leaves alone.
    pub fn boot(&self, workspace: &Workspace, raw: bool) -> Result<BareVm> {
        let paths = self.make_room(workspace)?;
        sparse::clone_file(&self.image.disk_seed(), &paths.disk())?;
        let machine = BackendVm::new(&self.manifest, &paths, Some(&self.boot));
        let mut start = self.backend.launch(machine)?;
        if raw {
            add_raw_port(&mut start.launch, &paths)?;
        }
        let begun = Instant::now();
        let (vmm, session) = self.bring_up(machine, start)?;
        Ok(BareVm { _vmm: vmm, ready_ms: ms_since(begun), session, paths })
    }

    /// Lets a copy of a frozen VM go on and waits for the agent. What mayfly does to be able to start
    /// the VMM is not in the time; copying the disk, which nobody can do without, is.
    pub fn restore(&self, workspace: &Workspace, frozen: &FrozenFiles) -> Result<BareVm> {
        let paths = self.make_room(workspace)?;
        let begun = Instant::now();
        sparse::clone_file(&frozen.disk, &paths.disk())?;
        let copied_ms = ms_since(begun);
        let memory = MemorySource::Frozen(frozen);
        let machine =
            BackendVm { memory, ..BackendVm::new(&self.manifest, &paths, Some(&self.boot)) };
        let start = self.backend.launch(machine)?;
        let begun = Instant::now();
        let (vmm, session) = self.bring_up(machine, start)?;
        Ok(BareVm { _vmm: vmm, ready_ms: copied_ms + ms_since(begun), session, paths })
    }

    /// The directories of a VM, without the disk of the last one.
    fn make_room(&self, workspace: &Workspace) -> Result<VmPaths> {
        let base = workspace.path("bare");
        let paths = VmPaths::new(&base.join("s"), &base.join("r"), &self.manifest.vm_id);
        for path in [&paths.dir, &paths.run] {
            directory::ensure_private(path)?;
        }
        let _ = std::fs::remove_file(paths.disk());
        Ok(paths)
    }

    fn bring_up(&self, machine: BackendVm, start: VmmStart) -> Result<(Vmm, AgentSession)> {
        // Killed when this fails.
        let vmm = match machine.manifest.jailed {
            true => Vmm::in_jail(start.launch, &machine.manifest.vm_id)?,
            false => Vmm::alone(start.launch)?,
        };
        let session = self.meet(machine, &start.monitor)?;
        Ok((vmm, session))
    }

    /// Greets the agent of a VM that is starting.
    fn meet(&self, machine: BackendVm, monitor: &MonitorStream) -> Result<AgentSession> {
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
