//! What VMs can run on here.

use std::path::Path;

use anyhow::Result;

use super::{CheckVerdict, HostCheck, firecracker};
use crate::backend::{self, Backend, BackendRequest};
use crate::host::kvm::KvmSupport;
use crate::host::program;
use crate::lifecycle::manager::VmManager;
use crate::model::{BackendChoice, BackendKind, Isolation};

/// What was found out about them.
pub struct BackendReport {
    pub checks: Vec<HostCheck>,
    /// What VMs run on if nobody names another; `None` if no real one works.
    pub chosen: Option<(BackendKind, Isolation)>,
}

/// Asks each backend whether it works, and `auto` what it takes.
pub fn look(manager: &VmManager) -> BackendReport {
    let kvm = KvmSupport::probe();
    let mut checks = firecracker::look(manager, &kvm);
    let firecracker_works = checks[0].verdict == CheckVerdict::Ok
        && checks.iter().all(|check| check.verdict != CheckVerdict::Failed);
    // One that works is enough.
    let lack = if firecracker_works { CheckVerdict::Warning } else { CheckVerdict::Failed };
    let qemu = qemu(manager, lack);
    let choice = if firecracker_works { BackendChoice::Auto } else { BackendChoice::Qemu };
    let works = firecracker_works || qemu.verdict == CheckVerdict::Ok;
    let chosen = select(manager, choice).ok().filter(|_| works);
    checks.splice(0..0, [kvm_check(&kvm), qemu]);
    BackendReport {
        checks,
        chosen: chosen.map(|backend| (backend.kind(), backend.accelerator().isolation())),
    }
}

/// The backend a VM would get that was asked for like this.
pub fn select(manager: &VmManager, choice: BackendChoice) -> Result<Box<dyn Backend>> {
    let accelerator = manager.settings.flags.accel;
    backend::select(
        BackendRequest { choice, accelerator, ..BackendRequest::default() },
        &manager.programs()?,
    )
}

fn kvm_check(kvm: &KvmSupport) -> HostCheck {
    match (kvm.problem(), kvm.remedy()) {
        (Some(problem), Some(remedy)) => {
            HostCheck::lacks("kvm", CheckVerdict::Warning, problem, remedy)
        }
        _ => HostCheck::ok("kvm", "hardware virtualization works"),
    }
}

fn qemu(manager: &VmManager, lack: CheckVerdict) -> HostCheck {
    let named = &manager.settings.flags.qemu_bin;
    let Some(path) = program::find(named) else {
        return HostCheck::lacks(
            "qemu",
            lack,
            format!("{} is not installed", named.display()),
            "install it: apt install qemu-system-x86",
        );
    };
    match (select(manager, BackendChoice::Qemu), version(&path)) {
        (Err(error), _) => HostCheck::of::<anyhow::Error>("qemu", lack, Err(error)),
        (_, Ok(said)) => HostCheck::ok("qemu", said),
        (_, Err(error)) => {
            let remedy = "install it anew, or name another with MAYFLY_QEMU_BIN";
            HostCheck::lacks("qemu", lack, format!("{error:#}"), remedy)
        }
    }
}

/// The first line of what a program says about its version.
fn version(path: &Path) -> Result<String> {
    let said = program::output(path, &["--version"])?;
    Ok(format!("{} ({})", said.lines().next().unwrap_or_default().trim(), path.display()))
}
