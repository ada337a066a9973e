//! Whether Firecracker and what jails it are there, whether they will do, and what `auto` makes of it.

use std::path::Path;

use nix::unistd::geteuid;

use super::backends::select;
use super::{CheckVerdict, HostCheck};
use crate::backend::FirecrackerVersion;
use crate::host::cgroup::{self, CgroupHierarchy};
use crate::host::kvm::KvmSupport;
use crate::host::program;
use crate::lifecycle::manager::VmManager;
use crate::model::{BackendChoice, Refusal, RefusalKind};

/// The check of Firecracker itself, and where there is one, those of its jail.
pub fn look(manager: &VmManager, kvm: &KvmSupport) -> Vec<HostCheck> {
    let name = "firecracker";
    let named = manager.program(&manager.settings.flags.firecracker_bin);
    let Some(path) = program::find(&named) else {
        let detail = format!("{} is not installed", named.display());
        return vec![HostCheck::lacks(
            name,
            CheckVerdict::Warning,
            detail,
            how_to_get_it(manager, kvm),
        )];
    };
    let version = match version_of(&path, "MAYFLY_FIRECRACKER_BIN") {
        Ok(version) => version,
        Err(refusal) => return vec![HostCheck::of(name, CheckVerdict::Warning, Err(refusal))],
    };
    let firecracker = HostCheck::of(name, CheckVerdict::Warning, taken(manager, &path, version));
    if !geteuid().is_root() {
        return vec![firecracker, HostCheck::ok("jailer", "not used: only root's VMs are jailed")];
    }
    // Where auto does not take Firecracker, a jailer that does not work stops nobody.
    let lack = match firecracker.verdict {
        CheckVerdict::Ok => CheckVerdict::Failed,
        _ => CheckVerdict::Warning,
    };
    vec![firecracker, jailer(manager, version, lack), cgroups(cgroup::usable())]
}

fn how_to_get_it(manager: &VmManager, kvm: &KvmSupport) -> String {
    if kvm.problem().is_some() {
        return "it would not work here: use '--backend qemu', which needs no hardware \
                virtualization"
            .into();
    }
    format!(
        "get a release from github.com/firecracker-microvm/firecracker; put its firecracker and \
         jailer on PATH or into {}, or name them with MAYFLY_FIRECRACKER_BIN and MAYFLY_JAILER_BIN",
        manager.settings.directories.programs().display()
    )
}

/// What a program says its version is. `variable` is the one that names another.
fn version_of(path: &Path, variable: &str) -> Result<FirecrackerVersion, Refusal> {
    let refuse = |why: String| {
        let hint = format!("install a release of Firecracker's anew, or name one with {variable}");
        Refusal::new(RefusalKind::Host, why).hint(hint)
    };
    match FirecrackerVersion::of(path) {
        Ok(Some(version)) => Ok(version),
        Ok(None) => Err(refuse(format!("{} names no version", path.display()))),
        Err(error) => Err(refuse(format!("{error:#}"))),
    }
}

/// Which Firecracker that is, or why `auto` does not take it.
fn taken(manager: &VmManager, path: &Path, version: FirecrackerVersion) -> Result<String, Refusal> {
    let shown = format!("Firecracker {version} ({})", path.display());
    let obstacle = match version.check() {
        Err(too_old) => too_old.into(),
        Ok(()) => match select(manager, BackendChoice::Firecracker) {
            Ok(_) => return Ok(shown),
            Err(error) => error,
        },
    };
    let detail = format!("{shown}; auto does not take it, because {obstacle:#}");
    let hint = Refusal::find(&obstacle).and_then(|refusal| refusal.hint.clone());
    Err(Refusal { kind: RefusalKind::Host, message: detail, hint })
}

fn jailer(manager: &VmManager, firecracker: FirecrackerVersion, lack: CheckVerdict) -> HostCheck {
    let name = "jailer";
    let named = manager.program(&manager.settings.flags.jailer_bin);
    let Some(path) = program::find(&named) else {
        let remedy = "it comes with every release of Firecracker: put it on PATH, or name it with \
                      MAYFLY_JAILER_BIN; or create VMs with '--no-jailer'";
        let detail = format!("{} is not installed", named.display());
        return HostCheck::lacks(name, CheckVerdict::Warning, detail, remedy);
    };
    let version = match version_of(&path, "MAYFLY_JAILER_BIN") {
        Ok(version) => version,
        Err(refusal) => return HostCheck::of(name, lack, Err(refusal)),
    };
    let mut detail = format!("jailer {version} ({})", path.display());
    let mut remedies = Vec::new();
    if version.jailer_follows_links() {
        detail.push_str(
            "; it has CVE-2026-1386: a local user who can write to a jail before the jailer does \
             can have it overwrite any file. mayfly makes every jail anew, in a directory that \
             only root can write, so nobody can prepare one",
        );
        remedies.push("update to 1.13.2, 1.14.1 or newer");
    }
    if version != firecracker {
        detail.push_str(&format!("; firecracker is {firecracker}"));
        remedies.push("install both from one release, as Firecracker's documentation wants it");
    }
    match remedies.is_empty() {
        true => HostCheck::ok(name, detail),
        false => HostCheck::lacks(name, CheckVerdict::Warning, detail, remedies.join("; ")),
    }
}

/// What limits a jailed VMM.
fn cgroups(usable: Option<CgroupHierarchy>) -> HostCheck {
    let ok = |version| {
        let detail = format!("version {version}, which limits memory, CPU and processes of VMMs");
        HostCheck::ok("cgroups", detail)
    };
    match usable {
        Some(CgroupHierarchy::V2) => ok(2),
        Some(CgroupHierarchy::V1) => ok(1),
        None => HostCheck::lacks(
            "cgroups",
            CheckVerdict::Warning,
            "there are none that could be used: a VM's VMM is not limited in memory, CPU and \
             processes",
            "mount control groups at /sys/fs/cgroup with the controllers memory, cpu and pids; in \
             a container, ask its host to let you write there",
        ),
    }
}
