//! Firecracker: microVMs with hardware virtualization, jailed if mayfly runs as root.
//!
//! Firecracker reads a VM's configuration from a file when it starts ([`configuration`]), in a
//! directory created for this start ([`home`]). Its API is used only to freeze a VM and to start its
//! copies ([`api`], [`snapshot`]). The agent is reached through a vsock ([`vsock`]).

pub(crate) mod api;
mod configuration;
pub mod doctor;
mod home;
mod snapshot;
mod version;
pub(crate) mod vsock;

use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use nix::unistd::geteuid;

use self::api::ApiClient;
use self::version::FirecrackerVersion;
use super::claim::{self, LineClaim};
use super::interface::{
    Backend, BackendVm, DialedStream, MonitorStream, StreamPurpose, VmTraces, VmmStart,
};
use crate::host::agent_channel::AgentChannel;
use crate::host::kvm::KvmSupport;
use crate::host::launcher::LaunchSpec;
use crate::host::wait::WaitLimit;
use crate::host::{cgroup, directory, log, namespaces, sparse, which};
use crate::model::{
    Accelerator, BackendKind, LinkKind, Refusal, RefusalKind, VmId, VmManifest, VmPaths,
};
use crate::protocol::network::VSOCK_NETWORK;
use crate::protocol::{VSOCK_CONTROL, VSOCK_SESSION};
use crate::sys::kernel;

/// The hint for hosts without KVM.
const USE_QEMU: &str = "use '--backend qemu', which works without hardware virtualization";

/// How much longer a freeze may take for each MiB of memory, which is written to a disk that may be slow.
const WRITE_TIME_PER_MIB: Duration = Duration::from_millis(20);

/// Runs `firecracker`, as named by the user or by default.
#[derive(Debug, Clone)]
pub struct FirecrackerBackend {
    pub program: PathBuf,
    /// `None` to start Firecracker without a jail.
    pub jailer: Option<PathBuf>,
}

impl FirecrackerBackend {
    /// Checks whether VMs can run.
    ///
    /// # Errors
    /// `Host` without KVM, without the programs, or if they are too old.
    pub fn check(&self, kvm: &KvmSupport) -> Result<home::JailPrograms> {
        if let Some(problem) = kvm.problem() {
            return Err(refuse(problem).hint(USE_QEMU).into());
        }
        if geteuid().is_root() && !namespaces::root_may_create() {
            let why = "root cannot create mounts and namespaces here, for example in a container";
            return Err(refuse(why.into())
                .hint("give the container CAP_SYS_ADMIN, or use '--backend qemu'")
                .into());
        }
        let firecracker = self.found()?;
        let jailer = self.jailer.as_deref();
        let without = ", or create VMs with '--no-jailer'";
        let jailer = jailer.map(|jailer| find(jailer, without)).transpose()?;
        match FirecrackerVersion::of(&firecracker)? {
            Some(version) => version.check()?,
            None => {
                return Err(refuse(format!("{} is not Firecracker", firecracker.display()))
                    .hint("name it with MAYFLY_FIRECRACKER_BIN")
                    .into());
            }
        }
        Ok(home::JailPrograms { firecracker, jailer })
    }

    fn found(&self) -> Result<PathBuf> {
        find(&self.program, "")
    }
}

/// The path of a program. `rest` adds another way out to the hint.
fn find(named: &Path, rest: &str) -> Result<PathBuf> {
    let found = which::find(named).ok_or_else(|| {
        refuse(format!("{} is not installed", named.display())).hint(format!(
            "get it from Firecracker's releases and put it on PATH{rest}; or {USE_QEMU}"
        ))
    });
    Ok(found?)
}

fn refuse(why: String) -> Refusal {
    Refusal::new(RefusalKind::Host, format!("firecracker cannot be used: {why}"))
}

impl Backend for FirecrackerBackend {
    fn kind(&self) -> BackendKind {
        BackendKind::Firecracker
    }

    fn accelerator(&self) -> Accelerator {
        Accelerator::Kvm
    }

    fn describe(&self, manifest: &mut VmManifest) {
        manifest.jailed = self.jailer.is_some();
        let jailer = if manifest.jailed { "yes" } else { "no" };
        manifest.metadata.insert("jailer".into(), jailer.into());
    }

    fn launch(&self, vm: BackendVm) -> Result<VmmStart> {
        let boot = vm.boot.context("a Firecracker VM boots an image")?;
        let programs = self.check(&KvmSupport::probe())?;
        let limit = log::limit(vm.largest_file()?);
        let program = home::prepare(vm, boot, &programs, limit)?;
        let launch = LaunchSpec {
            program,
            files: Vec::new(),
            // Firecracker's standard output is the guest's serial console.
            output: Some(log::open(&vm.paths.console(), Some(limit))?),
            log: log::open(&vm.paths.vmm_log(), Some(limit))?,
        };
        Ok(VmmStart { launch, monitor: None, line: None })
    }

    fn shape(&self, manifest: &VmManifest) -> Result<Option<String>> {
        let stamp = which::stamp(&self.found()?)?;
        // KVM is part of the kernel, and much of the state is KVM's.
        let kernel = kernel::release();
        Ok(Some(format!("{stamp}\nhost {kernel}\n{}", configuration::build(manifest))))
    }

    fn freeze(&self, vm: BackendVm, _: &MonitorStream, wait: &mut WaitLimit<'_>) -> Result<String> {
        let files = vm.frozen_files()?;
        let mut firecracker = connect_api(vm, wait)?;
        firecracker.extend(WRITE_TIME_PER_MIB * vm.manifest.mem_mib);
        firecracker.ask(&snapshot::PAUSE)?;
        firecracker.ask(&snapshot::CREATE)?;
        // Firecracker has also written memory that the guest never touched.
        sparse::dig_holes(&files.memory)?;
        home::reclaim(vm.manifest, files)?;
        let version = FirecrackerVersion::of(&self.found()?)?;
        Ok(version.map(|version| version.to_string()).unwrap_or_default())
    }

    fn thaw(&self, vm: BackendVm, _: &MonitorStream, wait: &mut WaitLimit<'_>) -> Result<()> {
        connect_api(vm, wait)?.ask(&snapshot::LOAD)?;
        let (socket, owner) = socket(vm, configuration::VSOCK);
        vsock::knock(&socket, owner, wait)
    }

    fn dial(
        &self,
        vm: BackendVm,
        purpose: StreamPurpose,
        wait: &mut WaitLimit<'_>,
    ) -> Result<DialedStream> {
        let Some(claim) = claim::free(vm.paths, purpose)?.next() else {
            return Err(claim::none_free(purpose).into());
        };
        let LineClaim { lock, .. } = claim?;
        let port = match purpose {
            StreamPurpose::Control => VSOCK_CONTROL,
            StreamPurpose::Session => VSOCK_SESSION,
        };
        let (socket, owner) = socket(vm, configuration::VSOCK);
        let stream = vsock::connect(&socket, owner, port, wait)?;
        // Every connection is new, so it carries nothing of an earlier client.
        Ok(DialedStream { channel: AgentChannel { stream, claim: Some(lock) }, dirty: false })
    }

    fn network_link(&self) -> Option<LinkKind> {
        Some(LinkKind::Ip)
    }

    fn dial_network(&self, vm: BackendVm, wait: &mut WaitLimit<'_>) -> Result<UnixStream> {
        let (socket, owner) = socket(vm, configuration::VSOCK);
        vsock::connect(&socket, owner, VSOCK_NETWORK, wait)
    }

    fn boot_deadline(&self) -> Duration {
        // A boot takes a fraction of a second, but a hundred times as long on a busy host that is
        // itself emulated.
        Duration::from_secs(180)
    }
}

/// What Firecracker leaves: a VMM's home and, if it is jailed, its control groups.
#[derive(Debug)]
pub struct FirecrackerTraces;

impl VmTraces for FirecrackerTraces {
    /// The jailer clears the environment, including the VM's mark.
    fn process_root(&self, paths: &VmPaths) -> Option<PathBuf> {
        Some(paths.vmm_home(true))
    }

    fn outside_paths(&self, id: &VmId) -> Vec<PathBuf> {
        cgroup::groups(id.as_str())
    }

    fn clear(&self, id: &VmId, paths: &VmPaths) -> Result<()> {
        cgroup::remove(id.as_str())?;
        directory::remove(&paths.jail())?;
        directory::remove(&paths.vmm_home(false))
    }
}

/// Connects to a VMM's API, which is possible once.
fn connect_api<'a, 'w>(vm: BackendVm, wait: &'a mut WaitLimit<'w>) -> Result<ApiClient<'a, 'w>> {
    let (socket, owner) = socket(vm, configuration::API);
    ApiClient::open(&socket, owner, wait)
}

/// The path of a VMM's socket, and the user it must belong to.
fn socket(vm: BackendVm, name: &str) -> (PathBuf, u32) {
    let VmManifest { jailed, vmm_uid, .. } = *vm.manifest;
    let owner = vmm_uid.unwrap_or_else(|| geteuid().as_raw());
    (vm.paths.vmm_home(jailed).join(name), owner)
}
