//! The interface of the backends, with its arguments and results.

use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::host::agent_channel::AgentChannel;
use crate::host::launcher::LaunchSpec;
use crate::host::sparse;
use crate::host::wait::WaitLimit;
use crate::model::layout::FILES_DISK_SIZE;
use crate::model::{
    Accelerator, BackendKind, BootFiles, FrozenFiles, LinkKind, VmId, VmManifest, VmPaths,
};

/// One VM as a backend sees it.
#[derive(Debug, Clone, Copy)]
pub struct BackendVm<'a> {
    pub manifest: &'a VmManifest,
    pub paths: &'a VmPaths,
    /// What it boots; `None` if the backend boots no image.
    pub boot: Option<&'a BootFiles>,
    pub memory: MemorySource<'a>,
}

/// Where the memory of a VM comes from.
#[derive(Debug, Clone, Copy)]
pub enum MemorySource<'a> {
    /// Nowhere: the VM boots.
    Fresh,
    /// The VM boots, to be frozen into these files; its disk is theirs.
    ToFreeze(&'a FrozenFiles),
    /// A frozen VM's memory, copied page by page on write.
    Frozen(&'a FrozenFiles),
}

/// How a VMM is started.
#[derive(Debug)]
pub struct VmmStart {
    pub launch: LaunchSpec,
    pub monitor: MonitorStream,
    /// The VM's line to its network helper, if it exists before the guest runs.
    pub line: Option<UnixStream>,
}

/// What is needed to start and freeze a VM by its VMM; `None` if the VMM needs nothing, or is reached in another
/// way.
pub type MonitorStream = Option<VmmMonitor>;

/// A connection to a VMM itself.
#[derive(Debug)]
pub struct VmmMonitor {
    pub stream: UnixStream,
    /// The socket that the VMM listens on for the network helper.
    pub network: Option<OwnedFd>,
}

impl<'a> BackendVm<'a> {
    /// A VM that boots.
    pub fn new(manifest: &'a VmManifest, paths: &'a VmPaths, boot: Option<&'a BootFiles>) -> Self {
        BackendVm { manifest, paths, boot, memory: MemorySource::Fresh }
    }

    /// Its own writable disk.
    pub(super) fn disk(&self) -> PathBuf {
        match self.memory {
            MemorySource::ToFreeze(files) => files.disk.clone(),
            MemorySource::Fresh | MemorySource::Frozen(_) => self.paths.disk(),
        }
    }

    /// The disk with the files that are copied into it, which it can only read. A frozen VM has that of the VM for
    /// which it is made, empty.
    pub(super) fn files_disk(&self) -> Result<PathBuf> {
        let path = self.paths.files_disk();
        sparse::open_sized(&path, FILES_DISK_SIZE)?;
        Ok(path)
    }

    /// The files of the frozen VM, if this VM becomes or continues one.
    pub(super) fn frozen_files(&self) -> Result<&'a FrozenFiles> {
        match self.memory {
            MemorySource::ToFreeze(files) | MemorySource::Frozen(files) => Ok(files),
            MemorySource::Fresh => bail!("a VM that boots has no frozen files"),
        }
    }

    /// The size in bytes of the largest file that its VMM must be able to write: its disk or its memory.
    pub(super) fn largest_file(&self) -> Result<u64> {
        let disk = self.disk();
        let disk = std::fs::metadata(&disk)
            .with_context(|| format!("cannot look at {}", disk.display()))?;
        Ok(disk.len().max(u64::from(self.manifest.mem_mib) << 20))
    }
}

/// What a stream to the agent is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StreamPurpose {
    /// mayfly's own requests; always possible.
    Control,
    /// A command; there are [`crate::model::layout::SESSION_PORTS`] at a time.
    Session,
}

/// A connected stream to an agent.
#[derive(Debug)]
pub struct DialedStream {
    pub channel: AgentChannel,
    /// The last command on this line was interrupted, so its bytes may still arrive.
    pub dirty: bool,
}

/// Runs VMs with one kind of VMM.
pub trait Backend {
    fn kind(&self) -> BackendKind;

    /// What executes the guest's instructions, on this host.
    fn accelerator(&self) -> Accelerator;

    /// Whether its VMs boot an image. Those that do get a disk of their own.
    fn boots_image(&self) -> bool {
        true
    }

    /// Adds to a new VM's manifest what only the backend knows.
    fn describe(&self, _: &mut VmManifest) {}

    /// The program that becomes the VMM, with its listening sockets open. Starts nothing.
    fn launch(&self, vm: BackendVm) -> Result<VmmStart>;

    /// Everything outside a VM's image and manifest that its frozen memory depends on, as text: the
    /// VMM's program and how it is started. `None` if VMs cannot be frozen.
    ///
    /// # Errors
    /// `Host` if the VMM is not installed.
    fn shape(&self, _: &VmManifest) -> Result<Option<String>> {
        Ok(None)
    }

    /// Pauses a VM that was started with [`MemorySource::ToFreeze`] and completes its files. The VMM must be
    /// killed afterwards. Returns the VMM's version, for display.
    ///
    /// # Errors
    /// The VMM's refusal, and the errors of [`WaitLimit::ready`].
    fn freeze(&self, _: BackendVm, _: &MonitorStream, _: &mut WaitLimit<'_>) -> Result<String> {
        bail!("VMs of this backend cannot be frozen")
    }

    /// Resumes a VM that was started with [`MemorySource::Frozen`]. Returns when the VMM has accepted the
    /// request, possibly before the guest runs.
    ///
    /// # Errors
    /// The VMM's refusal, and the errors of [`WaitLimit::ready`].
    fn thaw(&self, _: BackendVm, _: &MonitorStream, _: &mut WaitLimit<'_>) -> Result<()> {
        bail!("VMs of this backend cannot be frozen")
    }

    /// A stream to the agent of a VM whose VMM runs or is just starting. Some backends wait until the agent
    /// listens; others succeed before that.
    ///
    /// # Errors
    /// `Busy` if every session port is taken, and the errors of [`WaitLimit::ready`].
    fn dial(
        &self,
        vm: BackendVm,
        purpose: StreamPurpose,
        wait: &mut WaitLimit<'_>,
    ) -> Result<DialedStream>;

    /// The kind of its VMs' lines to a network helper; `None` if they cannot have a network.
    fn network_link(&self) -> Option<LinkKind> {
        None
    }

    /// A line to the network interface of a VM whose guest runs. It ends an earlier line.
    ///
    /// # Errors
    /// Those of [`WaitLimit::ready`].
    fn dial_network(&self, _: BackendVm, _: &mut WaitLimit<'_>) -> Result<UnixStream> {
        bail!("VMs of this backend have no network")
    }

    /// What to do about a VMM that has ended, if the last lines it printed tell.
    fn remedy(&self, _printed: &[String]) -> Option<&'static str> {
        None
    }

    /// How long a boot may take before it counts as failed. Emulation is tens of times slower than
    /// hardware, and slower still on a busy host; the limit is there to detect a boot that hangs.
    fn boot_deadline(&self) -> Duration;
}

/// What a backend's VMs have on the host. It is known without the backend's programs, because a VM must
/// be deleted even if they are gone.
pub trait VmTraces {
    /// The file in which the guest's console is recorded.
    fn console(&self, paths: &VmPaths) -> PathBuf {
        paths.console()
    }

    /// The root directory that identifies a process of the VM that does not carry the VM's mark.
    fn process_root(&self, _: &VmPaths) -> Option<PathBuf> {
        None
    }

    /// Whether commands run as processes of the host, which outlive the VMM.
    fn has_host_processes(&self) -> bool {
        false
    }

    /// Whether its VMM pauses the guest when the host's disk is full.
    fn pauses_guests(&self) -> bool {
        false
    }

    /// Whether the guest of a running VM waits for room on the host's disk.
    ///
    /// # Errors
    /// The VMM does not answer in time.
    fn is_waiting(&self, _: &VmPaths) -> Result<bool> {
        Ok(false)
    }

    /// As [`VmTraces::is_waiting`], after letting the guest go on if there is room again.
    fn go_on(&self, _: &VmPaths) -> Result<bool> {
        Ok(false)
    }

    /// What exists of the VM outside its own directories.
    fn outside_paths(&self, _: &VmId) -> Vec<PathBuf> {
        Vec::new()
    }

    /// Deletes what has no use without the VMM. The VM has no processes any more.
    fn clear(&self, _: &VmId, _: &VmPaths) -> Result<()> {
        Ok(())
    }
}
