//! Which backends work on this host.

use anyhow::Result;

use super::interface::Backend;
use super::programs::BackendPrograms;
use super::select::{BackendRequest, select};
use super::{firecracker, qemu};
use crate::host::kvm::KvmSupport;
use crate::model::{Accelerator, BackendChoice, BackendKind, CheckVerdict, HostCheck, Isolation};

/// The checks of all backends.
#[derive(Debug)]
pub struct BackendReport {
    pub checks: Vec<HostCheck>,
    /// What a VM runs on if no backend is named; `None` if no backend with isolation works.
    pub chosen: Option<(BackendKind, Isolation)>,
}

/// Checks each backend, and what `auto` selects.
pub fn examine(programs: &BackendPrograms, accelerator: Option<Accelerator>) -> BackendReport {
    let select = |choice| -> Result<Box<dyn Backend>> {
        select(BackendRequest { choice, accelerator, ..BackendRequest::default() }, programs)
    };
    let kvm = KvmSupport::probe();
    let selected = select(BackendChoice::Firecracker).map(drop);
    let mut checks = firecracker::doctor::checks(programs, &kvm, selected);
    let firecracker_works = checks[0].verdict == CheckVerdict::Ok
        && checks.iter().all(|check| check.verdict != CheckVerdict::Failed);
    // One backend that works is enough.
    let severity = if firecracker_works { CheckVerdict::Warning } else { CheckVerdict::Failed };
    let qemu = qemu::doctor::check(&programs.qemu, select(BackendChoice::Qemu).map(drop), severity);
    let choice = if firecracker_works { BackendChoice::Auto } else { BackendChoice::Qemu };
    let works = firecracker_works || qemu.verdict == CheckVerdict::Ok;
    let chosen = select(choice).ok().filter(|_| works);
    let network = qemu::doctor::network(&programs.qemu);
    checks.splice(0..0, [kvm_check(&kvm), qemu].into_iter().chain(network));
    BackendReport {
        checks,
        chosen: chosen.map(|backend| (backend.kind(), backend.accelerator().isolation())),
    }
}

fn kvm_check(kvm: &KvmSupport) -> HostCheck {
    match (kvm.problem(), kvm.remedy()) {
        (Some(problem), Some(remedy)) => {
            HostCheck::lacks("kvm", CheckVerdict::Warning, problem, remedy)
        }
        _ => HostCheck::ok("kvm", "hardware virtualization works"),
    }
}
