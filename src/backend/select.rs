//! Choosing a backend.

use std::path::PathBuf;

use anyhow::Result;
use nix::unistd::geteuid;

use super::Backend;
use super::firecracker::FirecrackerBackend;
use super::mock::MockBackend;
use super::qemu::QemuBackend;
use crate::host::kvm::KvmSupport;
use crate::host::program;
use crate::host::tsc::TscCalibration;
use crate::model::{Accelerator, BackendChoice, BackendKind, Refusal, RefusalKind, VmManifest};

/// The programs backends run, as named by the user or by default.
#[derive(Debug, Clone)]
pub struct BackendPrograms {
    pub qemu: PathBuf,
    pub firecracker: PathBuf,
    pub jailer: PathBuf,
    /// The host's own copy of the agent.
    pub agent: PathBuf,
}

/// What a new VM is wished to run on.
#[derive(Debug, Clone, Copy, Default)]
pub struct BackendRequest {
    pub choice: BackendChoice,
    /// Refuses every other one.
    pub accelerator: Option<Accelerator>,
    /// Whether the guest must be able to run VMs.
    pub nested: bool,
    /// Start Firecracker without its jailer, also as root.
    pub no_jailer: bool,
}

/// The backend a new VM gets.
///
/// `auto` is firecracker where that can work, else qemu, with KVM where the host has it and emulation
/// elsewhere. It is never mock, which must be named. Errors: `Host`, saying what is missing and what
/// to do.
pub fn select(wish: BackendRequest, programs: &BackendPrograms) -> Result<Box<dyn Backend>> {
    let qemu = |kvm: &KvmSupport| qemu(chosen_accelerator(wish.accelerator, kvm)?, programs);
    match wish.choice {
        BackendChoice::Mock => mock(wish.accelerator, programs),
        BackendChoice::Firecracker => firecracker(wish, &KvmSupport::probe(), programs),
        BackendChoice::Qemu => qemu(&KvmSupport::probe()),
        BackendChoice::Auto => {
            // Once for both: on a machine with many CPUs the list of their features is long.
            let kvm = KvmSupport::probe();
            firecracker(wish, &kvm, programs).or_else(|_| qemu(&kvm))
        }
    }
}

/// The backend an existing VM was created with.
pub fn of(manifest: &VmManifest, programs: &BackendPrograms) -> Result<Box<dyn Backend>> {
    match manifest.backend {
        BackendKind::Firecracker => {
            let jailer = manifest.jailed.then(|| programs.jailer.clone());
            Ok(Box::new(FirecrackerBackend { program: programs.firecracker.clone(), jailer }))
        }
        BackendKind::Qemu => qemu(manifest.accelerator, programs),
        BackendKind::Mock => mock(None, programs),
    }
}

fn firecracker(
    wish: BackendRequest,
    kvm: &KvmSupport,
    programs: &BackendPrograms,
) -> Result<Box<dyn Backend>> {
    if let Some(other @ (Accelerator::Tcg | Accelerator::None)) = wish.accelerator {
        return Err(no_accelerator(&other.to_string(), "firecracker").into());
    }
    if wish.nested {
        let message =
            "firecracker gives no guest hardware virtualization of its own, as the profile wants";
        return Err(Refusal::new(RefusalKind::Host, message).hint("use '--backend qemu'").into());
    }
    let jailed = geteuid().is_root() && !wish.no_jailer;
    let jailer = jailed.then(|| programs.jailer.clone());
    let firecracker = FirecrackerBackend { program: programs.firecracker.clone(), jailer };
    firecracker.check(kvm)?;
    Ok(Box::new(firecracker))
}

fn chosen_accelerator(named: Option<Accelerator>, kvm: &KvmSupport) -> Result<Accelerator> {
    match (named, kvm.problem()) {
        (Some(Accelerator::Tcg), _) => Ok(Accelerator::Tcg),
        (Some(Accelerator::Kvm) | None, None) => Ok(Accelerator::Kvm),
        (None, Some(_)) => Ok(Accelerator::Tcg),
        (Some(Accelerator::Kvm), Some(problem)) => {
            Err(Refusal::new(RefusalKind::Host, format!("no KVM: {problem}"))
                .hint(kvm.remedy().unwrap_or_default())
                .into())
        }
        (Some(Accelerator::None), _) => Err(no_accelerator("none", "qemu").into()),
    }
}

fn qemu(accelerator: Accelerator, programs: &BackendPrograms) -> Result<Box<dyn Backend>> {
    let tsc = TscCalibration::begin();
    let program = program::find(&programs.qemu).ok_or_else(|| {
        Refusal::new(RefusalKind::Host, format!("{} is not installed", programs.qemu.display()))
            .hint("install it with 'apt-get install qemu-system-x86', or see 'mayfly doctor'")
    })?;
    Ok(Box::new(QemuBackend { program, accelerator, tsc }))
}

fn mock(accelerator: Option<Accelerator>, programs: &BackendPrograms) -> Result<Box<dyn Backend>> {
    match accelerator {
        None | Some(Accelerator::None) => {
            Ok(Box::new(MockBackend { agent: programs.agent.clone() }))
        }
        Some(other) => Err(no_accelerator(&other.to_string(), "mock").into()),
    }
}

fn no_accelerator(accelerator: &str, backend: &str) -> Refusal {
    Refusal::new(RefusalKind::Usage, format!("{backend} has no accelerator {accelerator:?}"))
        .hint("unset MAYFLY_ACCEL, or name another backend")
}
