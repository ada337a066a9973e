//! The VMMs behind one trait.
//!
//! A backend holds no live handles: it says how a VM's disks are prepared, which program with which
//! arguments runs it, and how its agent is reached. Starting that program, watching it and ending it
//! is the same for all of them and lives in `host` and `lifecycle`.
//!
//! A VM comes up in one of three ways ([`MemorySource`]): it boots, it boots to be frozen, or it goes on as a
//! copy of a frozen one.

mod claim;
mod firecracker;
mod mock;
mod port;
mod qemu;
mod select;

use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};

pub use claim::{DialedStream, hang_up};
pub use firecracker::FirecrackerVersion;
pub use select::{BackendPrograms, BackendRequest, of, select};

use crate::host::gate::LaunchSpec;
use crate::host::wait::WaitLimit;
use crate::model::{Accelerator, BackendKind, BootFiles, FrozenFiles, VmManifest, VmPaths};

/// One VM as a backend sees it.
#[derive(Debug, Clone, Copy)]
pub struct BackendVm<'a> {
    pub manifest: &'a VmManifest,
    pub paths: &'a VmPaths,
    /// What it boots; `None` for a backend that boots nothing.
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
    /// A private copy of a frozen VM's, made page by page where it is written to.
    Frozen(&'a FrozenFiles),
}

/// What starts a VM.
#[derive(Debug)]
pub struct VmmStart {
    pub launch: LaunchSpec,
    pub monitor: MonitorStream,
}

/// A line to a VMM itself, for whoever starts or freezes its VM; `None` where the VMM has no such line,
/// or another way to it.
pub type MonitorStream = Option<UnixStream>;

impl<'a> BackendVm<'a> {
    /// A VM that boots.
    pub fn new(manifest: &'a VmManifest, paths: &'a VmPaths, boot: Option<&'a BootFiles>) -> Self {
        BackendVm { manifest, paths, boot, memory: MemorySource::Fresh }
    }

    /// Its own writable disk.
    fn disk(&self) -> PathBuf {
        match self.memory {
            MemorySource::ToFreeze(files) => files.disk.clone(),
            MemorySource::Fresh | MemorySource::Frozen(_) => self.paths.disk(),
        }
    }

    /// Bytes of the largest file its VMM must be able to write: its disk, or its memory.
    fn largest_file(&self) -> Result<u64> {
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

/// A way of running VMs.
pub trait Backend {
    fn kind(&self) -> BackendKind;

    /// What executes the guest's instructions, on this host.
    fn accelerator(&self) -> Accelerator;

    /// Whether its VMs boot an image. Those that do get a disk of their own.
    fn boots_image(&self) -> bool;

    /// Whether its VMMs run in a jail.
    fn is_jailed(&self) -> bool {
        false
    }

    /// The program that becomes the VMM, with its listening sockets open. Starts nothing.
    fn launch(&self, machine: BackendVm) -> Result<VmmStart>;

    /// Everything outside a VM's image and manifest that its frozen memory depends on, as text: the
    /// VMM's program and how it is started. `None` where VMs cannot be frozen.
    ///
    /// Errors: `Host` when the VMM is not installed.
    fn shape(&self, manifest: &VmManifest) -> Result<Option<String>>;

    /// Pauses a VM that was started with [`MemorySource::ToFreeze`] and completes its files. The VMM is of no
    /// use afterwards, and is to be killed. Returns the VMM's version, for people.
    ///
    /// Errors: what the VMM says against it, and those of [`WaitLimit::ready`].
    fn freeze(
        &self,
        machine: BackendVm,
        monitor: &MonitorStream,
        wait: &mut WaitLimit<'_>,
    ) -> Result<String>;

    /// Lets a VM that was started with [`MemorySource::Frozen`] go on where the frozen one was. Returns when
    /// the VMM has agreed to; the guest may already run, or not yet.
    ///
    /// Errors: what the VMM says against it, and those of [`WaitLimit::ready`].
    fn thaw(
        &self,
        machine: BackendVm,
        monitor: &MonitorStream,
        wait: &mut WaitLimit<'_>,
    ) -> Result<()>;

    /// A stream to the agent of a VM whose VMM runs or is just starting. On some backends that takes
    /// until the agent listens; on others it succeeds before.
    ///
    /// Errors: `Busy` when every session port is taken, and those of [`WaitLimit::ready`].
    fn dial(
        &self,
        machine: BackendVm,
        purpose: StreamPurpose,
        wait: &mut WaitLimit<'_>,
    ) -> Result<DialedStream>;

    /// How long a boot may take before it has failed. Emulation is tens of times slower than
    /// hardware, and a busy host slower still; this is a bound for hanging, not for patience.
    fn boot_deadline(&self) -> Duration;
}
