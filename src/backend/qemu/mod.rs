//! QEMU: the microvm machine, with KVM if the host has it and pure emulation otherwise.
//!
//! A VM is frozen by migrating it to a file, without the guest's memory. The memory is in a file of its
//! own, which the frozen VM shares with QEMU and its copies map privately.

mod arguments;
pub mod doctor;
pub(crate) mod monitor;

use std::fs::{File, OpenOptions, Permissions};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};

use self::arguments::{InheritedFiles, MemoryMapping};
use self::monitor::{QemuVersion, QmpClient};
use super::interface::{
    Backend, BackendVm, DialedStream, MemorySource, MonitorStream, StreamPurpose, VmTraces,
    VmmMonitor, VmmStart,
};
use super::port;
use crate::host::launcher::{HostUser, LaunchBounds, LaunchProgram, LaunchSpec};
use crate::host::seccomp::SyscallFilter;
use crate::host::tsc::TscCalibration;
use crate::host::wait::WaitLimit;
use crate::host::{kvm, log, namespaces, socket, which};
use crate::model::layout::SESSION_PORTS;
use crate::model::{Accelerator, BackendKind, LinkKind, VmManifest, VmPaths};

/// Runs `qemu-system-x86_64`.
#[derive(Debug, Clone)]
pub struct QemuBackend {
    /// The program, as an absolute path.
    pub program: PathBuf,
    pub accelerator: Accelerator,
    /// Started when the backend is selected. An emulated guest must be told the rate.
    pub tsc: TscCalibration,
}

impl Backend for QemuBackend {
    fn kind(&self) -> BackendKind {
        BackendKind::Qemu
    }

    fn accelerator(&self) -> Accelerator {
        self.accelerator
    }

    /// Every file and socket is opened here and inherited by QEMU, which opens nothing by name. So QEMU
    /// can run as a user that owns nothing, in a directory it cannot write.
    fn launch(&self, vm: BackendVm) -> Result<VmmStart> {
        let boot = vm.boot.context("a QEMU VM boots an image")?;
        let limit = log::limit(vm.largest_file()?);
        let (monitor, theirs) = match vm.memory {
            MemorySource::Fresh => (None, None),
            MemorySource::ToFreeze(_) | MemorySource::Frozen(_) => {
                let (ours, theirs) = UnixStream::pair().context("cannot make a socket")?;
                (Some(ours), Some(theirs))
            }
        };
        let has_network = !vm.manifest.network.is_none();
        let network = has_network.then(|| socket::listen(&vm.paths.network())).transpose()?;
        // A connection waits until QEMU accepts it.
        let line = match (&network, vm.memory) {
            (Some(_), MemorySource::Fresh | MemorySource::Frozen(_)) => {
                socket::connect(&vm.paths.network())?
            }
            _ => None,
        };
        let network_of_monitor =
            network.as_ref().map(UnixListener::try_clone).transpose()?.map(OwnedFd::from);
        let monitor = monitor.map(|stream| VmmMonitor { stream, network: network_of_monitor });
        let mut files = Vec::new();
        let mut keep = |file: OwnedFd| -> RawFd {
            let number = file.as_raw_fd();
            files.push(file);
            number
        };
        let opened = InheritedFiles {
            kernel: keep(open(&boot.kernel, false)?),
            initrd: keep(open(&boot.initrd, false)?),
            rootfs: keep(open(&boot.rootfs, false)?),
            disk: keep(open(&vm.disk(), true)?),
            files: keep(open(&vm.files_disk()?, false)?),
            console: keep(log::open(&vm.paths.console(), Some(limit))?.into()),
            memory: match vm.memory {
                MemorySource::Fresh => None,
                MemorySource::ToFreeze(files) => {
                    Some((keep(open(&files.memory, true)?), MemoryMapping::Shared))
                }
                MemorySource::Frozen(files) => {
                    let (file, mapping) = open_memory(&files.memory)?;
                    Some((keep(file), mapping))
                }
            },
            monitor: theirs.map(|socket| keep(socket.into())),
            later_monitor: keep(socket::listen(&vm.paths.monitor())?.into()),
            network: network.map(|socket| keep(socket.into())),
            ports: port::listen(vm.paths)?.into_iter().map(keep).collect(),
        };
        let tsc_khz = match vm.memory {
            // The frozen guest's kernel knows the rate.
            MemorySource::Frozen(_) => 0,
            MemorySource::Fresh | MemorySource::ToFreeze(_) => self.tsc.khz(),
        };
        let id = vm.manifest.vm_id.as_str();
        let user = vm.manifest.vmm_uid.map(|uid| self.user(uid));
        let bounds = LaunchBounds {
            file_size: Some(limit),
            // It has no use for a network. Where root cannot take it away, the filter still refuses sockets.
            no_network: user.is_some() && namespaces::root_may_create(),
            syscalls: Some(SyscallFilter::Vmm),
            ..LaunchBounds::default()
        };
        let program = LaunchProgram {
            path: self.program.clone(),
            args: arguments::build(vm.manifest, id, tsc_khz, &opened),
            cwd: PathBuf::from("/"),
            user,
            bounds,
            ..LaunchProgram::default()
        };
        let log = log::open(&vm.paths.vmm_log(), Some(limit))?;
        Ok(VmmStart { launch: LaunchSpec { program, files, output: None, log }, monitor, line })
    }

    fn shape(&self, manifest: &VmManifest) -> Result<Option<String>> {
        // Descriptors differ between VMs and are not part of the shape.
        let ports = vec![0; SESSION_PORTS as usize + 1];
        let network = (!manifest.network.is_none()).then_some(0);
        let opened = InheritedFiles { ports, network, ..InheritedFiles::default() };
        let arguments = arguments::build(manifest, "", 0, &opened).join(" ");
        Ok(Some(format!("{}\n{arguments}", which::stamp(&self.program)?)))
    }

    fn freeze(
        &self,
        vm: BackendVm,
        monitor: &MonitorStream,
        wait: &mut WaitLimit<'_>,
    ) -> Result<String> {
        let files = vm.frozen_files()?;
        let state = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&files.state)
            .with_context(|| format!("cannot create {}", files.state.display()))?;
        let mut qemu = QmpClient::open(monitor.as_ref().map(|monitor| &monitor.stream), wait)?;
        qemu.keep_memory_apart()?;
        qemu.save(state)?;
        if qemu.version() >= FIRST_READ_ONLY {
            let memory = std::fs::set_permissions(&files.memory, Permissions::from_mode(0o444));
            memory.context("cannot protect the memory")?;
        }
        Ok(qemu.version().to_string())
    }

    fn thaw(&self, vm: BackendVm, monitor: &MonitorStream, wait: &mut WaitLimit<'_>) -> Result<()> {
        let files = vm.frozen_files()?;
        let mut qemu = QmpClient::open(monitor.as_ref().map(|monitor| &monitor.stream), wait)?;
        qemu.keep_memory_apart()?;
        if let Some(network) = monitor.as_ref().and_then(|monitor| monitor.network.as_ref()) {
            qemu.wait_until_it_listens(network)?;
        }
        qemu.load(open(&files.state, false)?)
    }

    fn dial(
        &self,
        vm: BackendVm,
        purpose: StreamPurpose,
        wait: &mut WaitLimit<'_>,
    ) -> Result<DialedStream> {
        port::dial(vm.paths, purpose, wait)
    }

    fn network_link(&self) -> Option<LinkKind> {
        Some(LinkKind::Ethernet)
    }

    fn dial_network(&self, vm: BackendVm, wait: &mut WaitLimit<'_>) -> Result<UnixStream> {
        loop {
            if let Some(line) = socket::connect(&vm.paths.network())? {
                return Ok(line);
            }
            wait.pause(RETRY_INTERVAL, "its VMM to accept a connection")?;
        }
    }

    fn remedy(&self, printed: &[String]) -> Option<&'static str> {
        // An older one does not know such a line, and says so before it starts the guest.
        let is_about_network = |line: &String| line.contains(" -netdev stream");
        printed.iter().any(is_about_network).then_some(
            "VMs with a network need QEMU 7.2 or later; 'mayfly doctor' shows which one this is",
        )
    }

    fn boot_deadline(&self) -> Duration {
        match self.accelerator {
            // A boot takes two seconds on an idle machine, and minutes if many boot at once on few cores.
            Accelerator::Tcg => Duration::from_secs(180),
            Accelerator::Kvm | Accelerator::None => Duration::from_secs(30),
        }
    }
}

/// The pause between two tries to connect to its network card.
const RETRY_INTERVAL: Duration = Duration::from_millis(10);

/// The first version that maps a file privately without opening it for writing.
const FIRST_READ_ONLY: QemuVersion = QemuVersion(8, 2, 0);

/// Opens the memory of a frozen VM for a copy: read-only, unless it was left writable because the VMM
/// cannot use it otherwise.
fn open_memory(path: &Path) -> Result<(OwnedFd, MemoryMapping)> {
    let mode = std::fs::metadata(path).map(|about| about.permissions().mode());
    let is_writable =
        mode.with_context(|| format!("cannot look at {}", path.display()))? & 0o222 != 0;
    let mapping = if is_writable { MemoryMapping::Private } else { MemoryMapping::PrivateReadOnly };
    Ok((open(path, is_writable)?, mapping))
}

impl QemuBackend {
    fn user(&self, uid: u32) -> HostUser {
        let groups = match self.accelerator {
            Accelerator::Kvm => kvm::device_group().into_iter().collect(),
            Accelerator::Tcg | Accelerator::None => Vec::new(),
        };
        HostUser { uid, gid: uid, groups }
    }
}

/// QEMU leaves nothing outside the VM's directories.
#[derive(Debug)]
pub struct QemuTraces;

impl VmTraces for QemuTraces {
    fn pauses_guests(&self) -> bool {
        true
    }

    fn is_waiting(&self, paths: &VmPaths) -> Result<bool> {
        let mut wait = WaitLimit::within(MONITOR_LIMIT);
        let monitor = socket::connect(&paths.monitor())?;
        QmpClient::open(monitor.as_ref(), &mut wait)?.is_paused_by_disk()
    }

    fn go_on(&self, paths: &VmPaths) -> Result<bool> {
        let mut wait = WaitLimit::within(MONITOR_LIMIT);
        let monitor = socket::connect(&paths.monitor())?;
        QmpClient::open(monitor.as_ref(), &mut wait)?.go_on()
    }
}

/// How long QEMU may take to answer. It serves one client of its monitor at a time, each for a fraction of a second.
const MONITOR_LIMIT: Duration = Duration::from_secs(1);

fn open(path: &Path, write: bool) -> Result<OwnedFd> {
    let file: File = OpenOptions::new()
        .read(true)
        .write(write)
        .open(path)
        .with_context(|| format!("cannot open {}", path.display()))?;
    Ok(file.into())
}
