//! Choosing a backend.

use std::path::PathBuf;

use anyhow::Result;

use super::Backend;
use super::firecracker;
use super::mock::Mock;
use super::qemu::Qemu;
use crate::host::kvm::Kvm;
use crate::host::program;
use crate::host::tsc::Calibration;
use crate::model::{Accelerator, BackendChoice, BackendKind, Kind, Refusal};

/// The programs backends run, as named by the user or by default.
#[derive(Debug, Clone)]
pub struct Programs {
    pub qemu: PathBuf,
    pub firecracker: PathBuf,
    /// The host's own copy of the agent.
    pub agent: PathBuf,
}

/// The backend a new VM gets. `accelerator` refuses every other one.
///
/// `auto` is qemu, with KVM where the host has it and emulation elsewhere. It is never mock, which
/// must be named. Errors: `Host`, saying what is missing and what to do.
pub fn select(
    choice: BackendChoice,
    accelerator: Option<Accelerator>,
    programs: &Programs,
) -> Result<Box<dyn Backend>> {
    match choice {
        BackendChoice::Firecracker => Err(firecracker::refuse(&programs.firecracker).into()),
        BackendChoice::Mock => mock(accelerator, programs),
        BackendChoice::Auto | BackendChoice::Qemu => {
            let kvm = Kvm::probe();
            let accelerator = match (accelerator, kvm.problem()) {
                (Some(Accelerator::Tcg), _) => Accelerator::Tcg,
                (Some(Accelerator::Kvm) | None, None) => Accelerator::Kvm,
                (None, Some(_)) => Accelerator::Tcg,
                (Some(Accelerator::Kvm), Some(problem)) => {
                    return Err(Refusal::new(Kind::Host, format!("no KVM: {problem}"))
                        .hint(kvm.remedy().unwrap_or_default())
                        .into());
                }
                (Some(Accelerator::None), _) => return Err(no_accelerator("none", "qemu").into()),
            };
            qemu(accelerator, programs)
        }
    }
}

/// The backend an existing VM was created with.
pub fn by_kind(
    kind: BackendKind,
    accelerator: Accelerator,
    programs: &Programs,
) -> Result<Box<dyn Backend>> {
    match kind {
        BackendKind::Firecracker => Err(firecracker::refuse(&programs.firecracker).into()),
        BackendKind::Qemu => qemu(accelerator, programs),
        BackendKind::Mock => mock(None, programs),
    }
}

fn qemu(accelerator: Accelerator, programs: &Programs) -> Result<Box<dyn Backend>> {
    let tsc = Calibration::begin();
    let program = program::find(&programs.qemu).ok_or_else(|| {
        Refusal::new(Kind::Host, format!("{} is not installed", programs.qemu.display()))
            .hint("install it with 'apt-get install qemu-system-x86', or see 'mayfly doctor'")
    })?;
    Ok(Box::new(Qemu { program, accelerator, tsc }))
}

fn mock(accelerator: Option<Accelerator>, programs: &Programs) -> Result<Box<dyn Backend>> {
    match accelerator {
        None | Some(Accelerator::None) => Ok(Box::new(Mock { agent: programs.agent.clone() })),
        Some(other) => Err(no_accelerator(&other.to_string(), "mock").into()),
    }
}

fn no_accelerator(accelerator: &str, backend: &str) -> Refusal {
    Refusal::new(Kind::Usage, format!("{backend} has no accelerator {accelerator:?}"))
        .hint("unset MAYFLY_ACCEL, or name another backend")
}
