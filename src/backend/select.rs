//! Selecting a backend.

use anyhow::Result;
use clap::ValueEnum;
use nix::unistd::geteuid;

use super::firecracker::{FirecrackerBackend, FirecrackerTraces};
use super::interface::{Backend, VmTraces};
use super::mock::{MockBackend, MockTraces};
use super::programs::{BackendPrograms, installed_agent};
use super::qemu::{QemuBackend, QemuTraces};
use crate::host::kvm::KvmSupport;
use crate::host::tsc::TscCalibration;
use crate::host::which;
use crate::model::{Accelerator, BackendChoice, BackendKind, Refusal, RefusalKind, VmManifest};

/// What a new VM should run on.
#[derive(Debug, Clone, Copy, Default)]
pub struct BackendRequest {
    pub choice: BackendChoice,
    /// The only accelerator that is accepted, if any is named.
    pub accelerator: Option<Accelerator>,
    /// Whether the guest must be able to run VMs.
    pub nested: bool,
    /// Start Firecracker without its jailer even as root.
    pub no_jailer: bool,
}

/// The backend a new VM gets.
///
/// `auto` selects firecracker if it works here, else qemu, with KVM if the host has it and emulation
/// otherwise. It never selects mock.
///
/// # Errors
/// `Host` with what is missing and what to do; `Usage` for an accelerator that the backend does not have.
pub fn select(request: BackendRequest, programs: &BackendPrograms) -> Result<Box<dyn Backend>> {
    let qemu = |kvm: &KvmSupport| qemu(chosen_accelerator(request.accelerator, kvm)?, programs);
    match request.choice {
        BackendChoice::Mock => mock(request.accelerator),
        BackendChoice::Firecracker => firecracker(request, &KvmSupport::probe(), programs),
        BackendChoice::Qemu => qemu(&KvmSupport::probe()),
        BackendChoice::Auto => {
            // Probed once for both, because the probe takes long on a host with many CPUs.
            let kvm = KvmSupport::probe();
            firecracker(request, &kvm, programs).or_else(|_| qemu(&kvm))
        }
    }
}

/// The backend an existing VM was created with.
pub fn of_manifest(manifest: &VmManifest, programs: &BackendPrograms) -> Result<Box<dyn Backend>> {
    match manifest.backend {
        BackendKind::Firecracker => Ok(Box::new(firecracker_backend(programs, manifest.jailed))),
        BackendKind::Qemu => qemu(manifest.accelerator, programs),
        BackendKind::Mock => mock(None),
    }
}

/// What the VMs of a backend leave on the host.
pub fn traces(backend: BackendKind) -> &'static dyn VmTraces {
    match backend {
        BackendKind::Firecracker => &FirecrackerTraces,
        BackendKind::Qemu => &QemuTraces,
        BackendKind::Mock => &MockTraces,
    }
}

/// What VMs of an unknown backend may leave on the host.
pub fn all_traces() -> impl Iterator<Item = &'static dyn VmTraces> {
    BackendKind::value_variants().iter().copied().map(traces)
}

fn firecracker(
    request: BackendRequest,
    kvm: &KvmSupport,
    programs: &BackendPrograms,
) -> Result<Box<dyn Backend>> {
    if let Some(other @ (Accelerator::Tcg | Accelerator::None)) = request.accelerator {
        return Err(no_accelerator(&other.to_string(), "firecracker").into());
    }
    if request.nested {
        let message =
            "firecracker offers its guests no hardware virtualization, which the profile needs";
        return Err(Refusal::new(RefusalKind::Host, message).hint("use '--backend qemu'").into());
    }
    let jailed = geteuid().is_root() && !request.no_jailer;
    let firecracker = firecracker_backend(programs, jailed);
    firecracker.check(kvm)?;
    Ok(Box::new(firecracker))
}

fn firecracker_backend(programs: &BackendPrograms, is_jailed: bool) -> FirecrackerBackend {
    let jailer = is_jailed.then(|| programs.resolve(&programs.jailer));
    FirecrackerBackend { program: programs.resolve(&programs.firecracker), jailer }
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
    let program = which::find(&programs.qemu).ok_or_else(|| {
        Refusal::new(RefusalKind::Host, format!("{} is not installed", programs.qemu.display()))
            .hint("install it with 'apt-get install qemu-system-x86', or see 'mayfly doctor'")
    })?;
    Ok(Box::new(QemuBackend { program, accelerator, tsc }))
}

fn mock(accelerator: Option<Accelerator>) -> Result<Box<dyn Backend>> {
    match accelerator {
        None | Some(Accelerator::None) => Ok(Box::new(MockBackend { agent: installed_agent()? })),
        Some(other) => Err(no_accelerator(&other.to_string(), "mock").into()),
    }
}

fn no_accelerator(accelerator: &str, backend: &str) -> Refusal {
    Refusal::new(RefusalKind::Usage, format!("{backend} has no accelerator {accelerator:?}"))
        .hint("unset MAYFLY_ACCEL, or name another backend")
}
