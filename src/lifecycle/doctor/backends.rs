//! What VMs can run on here.

use std::path::Path;

use anyhow::Result;

use super::{Check, Verdict, firecracker};
use crate::backend::{self, Backend, Wish};
use crate::host::kvm::Kvm;
use crate::host::program;
use crate::lifecycle::manager::Manager;
use crate::model::{BackendChoice, BackendKind, Isolation};

/// What was found out about them.
pub struct Backends {
    pub checks: Vec<Check>,
    /// What VMs run on if nobody names another; `None` if no real one works.
    pub chosen: Option<(BackendKind, Isolation)>,
}

/// Asks each backend whether it works, and `auto` what it takes.
pub fn look(manager: &Manager) -> Backends {
    let kvm = Kvm::probe();
    let mut checks = firecracker::look(manager, &kvm);
    let firecracker_works = checks[0].verdict == Verdict::Ok
        && checks.iter().all(|check| check.verdict != Verdict::Failed);
    // One that works is enough.
    let lack = if firecracker_works { Verdict::Warning } else { Verdict::Failed };
    let qemu = qemu(manager, lack);
    let choice = if firecracker_works { BackendChoice::Auto } else { BackendChoice::Qemu };
    let works = firecracker_works || qemu.verdict == Verdict::Ok;
    let chosen = select(manager, choice).ok().filter(|_| works);
    checks.splice(0..0, [kvm_check(&kvm), qemu]);
    Backends {
        checks,
        chosen: chosen.map(|backend| (backend.kind(), backend.accelerator().isolation())),
    }
}

/// The backend a VM would get that was asked for like this.
pub fn select(manager: &Manager, choice: BackendChoice) -> Result<Box<dyn Backend>> {
    let accelerator = manager.settings.accelerator;
    backend::select(Wish { choice, accelerator, ..Wish::default() }, &manager.programs()?)
}

fn kvm_check(kvm: &Kvm) -> Check {
    match (kvm.problem(), kvm.remedy()) {
        (Some(problem), Some(remedy)) => Check::lacks("kvm", Verdict::Warning, problem, remedy),
        _ => Check::ok("kvm", "hardware virtualization works"),
    }
}

fn qemu(manager: &Manager, lack: Verdict) -> Check {
    let named = &manager.settings.qemu_bin;
    let Some(path) = program::find(named) else {
        return Check::lacks(
            "qemu",
            lack,
            format!("{} is not installed", named.display()),
            "install it: apt install qemu-system-x86",
        );
    };
    match (select(manager, BackendChoice::Qemu), version(&path)) {
        (Err(error), _) => Check::of::<anyhow::Error>("qemu", lack, Err(error)),
        (_, Ok(said)) => Check::ok("qemu", said),
        (_, Err(error)) => {
            let remedy = "install it anew, or name another with MAYFLY_QEMU_BIN";
            Check::lacks("qemu", lack, format!("{error:#}"), remedy)
        }
    }
}

/// The first line of what a program says about its version.
fn version(path: &Path) -> Result<String> {
    let said = program::output(path, &["--version"])?;
    Ok(format!("{} ({})", said.lines().next().unwrap_or_default().trim(), path.display()))
}
