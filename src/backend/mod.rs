//! The VMMs behind one trait.
//!
//! A backend holds no live handles: it says how a VM's disks are prepared, which program with which
//! arguments runs it, and how its agent is reached. Starting that program, watching it and ending it
//! is the same for all of them and lives in `host` and `lifecycle`.
//!
//! A template (a VM frozen when its agent was ready) will be a second way to [`Backend::launch`], and
//! a `snapshot` beside it.

mod claim;
mod firecracker;
mod mock;
mod port;
mod qemu;
mod select;

use std::time::Duration;

use anyhow::{Context, Result};

pub use claim::{Dialled, hang_up};
pub use firecracker::Version as FirecrackerVersion;
pub use select::{Programs, Wish, of, select};

use crate::host::gate::Launch;
use crate::host::wait::Wait;
use crate::model::{Accelerator, BackendKind, BootFiles, Manifest, VmPaths};

/// One VM as a backend sees it.
#[derive(Debug, Clone, Copy)]
pub struct Machine<'a> {
    pub manifest: &'a Manifest,
    pub paths: &'a VmPaths,
    /// What it boots; `None` for a backend that boots nothing.
    pub boot: Option<&'a BootFiles>,
}

impl Machine<'_> {
    /// Bytes of the largest file its VMM must be able to write: its disk, or its memory.
    fn largest_file(&self) -> Result<u64> {
        let disk = self.paths.disk();
        let disk = std::fs::metadata(&disk)
            .with_context(|| format!("cannot look at {}", disk.display()))?;
        Ok(disk.len().max(u64::from(self.manifest.mem_mib) << 20))
    }
}

/// What a stream to the agent is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
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
    fn launch(&self, machine: Machine) -> Result<Launch>;

    /// A stream to the agent of a VM whose VMM runs or is just starting. On some backends that takes
    /// until the agent listens; on others it succeeds before.
    ///
    /// Errors: `Busy` when every session port is taken, and those of [`Wait::ready`].
    fn dial(&self, machine: Machine, purpose: Purpose, wait: &mut Wait<'_>) -> Result<Dialled>;

    /// How long a boot may take before it has failed. Emulation is tens of times slower than
    /// hardware, and a busy host slower still; this is a bound for hanging, not for patience.
    fn boot_deadline(&self) -> Duration;
}
