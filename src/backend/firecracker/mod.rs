//! Firecracker: microVMs behind hardware virtualization, jailed where mayfly runs as root.
//!
//! A VM is described by a file that Firecracker reads when it starts ([`configuration`]), in a
//! directory made for this start ([`home`]); there is no API to be reached by anybody. The agent is
//! found through a vsock ([`vsock`]).

mod configuration;
mod home;
mod version;
mod vsock;

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use nix::unistd::geteuid;

pub use self::version::Version;
use super::claim::{self, Claim, Dialled};
use super::{Backend, Machine, Monitor, Purpose, Start};
use crate::host::channel::Channel;
use crate::host::gate::Launch;
use crate::host::kvm::Kvm;
use crate::host::wait::Wait;
use crate::host::{log, namespaces, program};
use crate::model::{Accelerator, BackendKind, Kind, Manifest, Refusal};
use crate::protocol::{VSOCK_CONTROL, VSOCK_SESSION};

/// What to use instead.
const INSTEAD: &str = "use '--backend qemu', which works without hardware virtualization";

/// Runs `firecracker`, as named by the user or by default.
#[derive(Debug, Clone)]
pub struct Firecracker {
    pub program: PathBuf,
    /// `None` starts it without a jail.
    pub jailer: Option<PathBuf>,
}

impl Firecracker {
    /// Refuses where it cannot run VMs: without KVM, without its programs, or with too old ones.
    pub fn check(&self, kvm: &Kvm) -> Result<home::Programs> {
        let refuse =
            |why: String| Refusal::new(Kind::Host, format!("firecracker cannot be used: {why}"));
        if let Some(problem) = kvm.problem() {
            return Err(refuse(problem).hint(INSTEAD).into());
        }
        if geteuid().is_root() && !namespaces::root_may_make_them() {
            let why = "root may not make mounts and namespaces here, as in a container";
            return Err(refuse(why.into())
                .hint("give the container CAP_SYS_ADMIN, or use '--backend qemu'")
                .into());
        }
        let find = |named: &Path, rest: &str| {
            program::find(named).ok_or_else(|| {
                refuse(format!("{} is not installed", named.display())).hint(format!(
                    "get it from Firecracker's releases and put it on PATH{rest}; or {INSTEAD}"
                ))
            })
        };
        let firecracker = find(&self.program, "")?;
        let without = ", or create VMs with '--no-jailer'";
        let jailer = self.jailer.as_deref().map(|jailer| find(jailer, without)).transpose()?;
        match Version::of(&firecracker)? {
            Some(version) => version.check()?,
            None => {
                return Err(refuse(format!("{} is something else", firecracker.display()))
                    .hint("name it with MAYFLY_FIRECRACKER_BIN")
                    .into());
            }
        }
        Ok(home::Programs { firecracker, jailer })
    }
}

impl Backend for Firecracker {
    fn kind(&self) -> BackendKind {
        BackendKind::Firecracker
    }

    fn accelerator(&self) -> Accelerator {
        Accelerator::Kvm
    }

    fn boots_image(&self) -> bool {
        true
    }

    fn is_jailed(&self) -> bool {
        self.jailer.is_some()
    }

    fn launch(&self, machine: Machine) -> Result<Start> {
        let boot = machine.boot.context("a Firecracker VM boots an image")?;
        let programs = self.check(&Kvm::probe())?;
        let limit = log::limit(machine.largest_file()?);
        let program = home::prepare(machine, boot, &programs, limit)?;
        let launch = Launch {
            program,
            files: Vec::new(),
            // Its standard output is the guest's serial console.
            output: Some(log::open(&machine.paths.console(), Some(limit))?),
            log: log::open(&machine.paths.vmm_log(), Some(limit))?,
        };
        Ok(Start { launch, monitor: None })
    }

    fn shape(&self, _: &Manifest) -> Result<Option<String>> {
        Ok(None)
    }

    fn freeze(&self, _: Machine, _: &Monitor, _: &mut Wait<'_>) -> Result<String> {
        anyhow::bail!("not yet")
    }

    fn thaw(&self, _: Machine, _: &Monitor, _: &mut Wait<'_>) -> Result<()> {
        anyhow::bail!("not yet")
    }

    fn dial(&self, machine: Machine, purpose: Purpose, wait: &mut Wait<'_>) -> Result<Dialled> {
        let (manifest, paths) = (machine.manifest, machine.paths);
        let Some(claim) = claim::free(paths, purpose)?.next() else {
            return Err(claim::none_free(purpose).into());
        };
        let Claim { lock, .. } = claim?;
        let port = match purpose {
            Purpose::Control => VSOCK_CONTROL,
            Purpose::Session => VSOCK_SESSION,
        };
        let socket = paths.vmm_home(manifest.jailed).join(configuration::VSOCK);
        let owner = manifest.vmm_uid.unwrap_or_else(|| geteuid().as_raw());
        let stream = vsock::connect(&socket, owner, port, wait)?;
        // Every connection is a new one: nothing of an earlier client is on it.
        Ok(Dialled { channel: Channel { stream, claim: Some(lock) }, dirty: false })
    }

    fn boot_deadline(&self) -> Duration {
        // A boot takes a fraction of a second. On a host that is itself emulated, and crowded, a
        // hundred times as long.
        Duration::from_secs(60)
    }
}
