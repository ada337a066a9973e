//! Whether Firecracker, its jailer and control groups work, and whether `auto` selects Firecracker.

use std::path::Path;

use anyhow::Result;
use nix::unistd::geteuid;

use super::version::FirecrackerVersion;
use crate::backend::programs::BackendPrograms;
use crate::host::cgroup::{self, CgroupHierarchy};
use crate::host::kvm::KvmSupport;
use crate::host::which;
use crate::model::{CheckVerdict, HostCheck, Refusal, RefusalKind};

/// The check of Firecracker itself, and if it is installed, those of its jail. `selected` says whether it can
/// be selected as the backend.
pub fn checks(
    programs: &BackendPrograms,
    kvm: &KvmSupport,
    selected: Result<()>,
) -> Vec<HostCheck> {
    let name = "firecracker";
    let named = programs.resolve(&programs.firecracker);
    let Some(path) = which::find(&named) else {
        let detail = format!("{} is not installed", named.display());
        return vec![HostCheck::lacks(
            name,
            CheckVerdict::Warning,
            detail,
            how_to_get_it(&programs.directory, kvm),
        )];
    };
    let version = match version_of(&path, "MAYFLY_FIRECRACKER_BIN") {
        Ok(version) => version,
        Err(refusal) => return vec![HostCheck::of(name, CheckVerdict::Warning, Err(refusal))],
    };
    let firecracker =
        HostCheck::of(name, CheckVerdict::Warning, selectable(&path, version, selected));
    if !geteuid().is_root() {
        return vec![firecracker, HostCheck::ok("jailer", "not used: only root's VMs are jailed")];
    }
    // A jailer is needed only if `auto` selects Firecracker.
    let is_used = firecracker.verdict == CheckVerdict::Ok;
    let severity = if is_used { CheckVerdict::Failed } else { CheckVerdict::Warning };
    vec![firecracker, jailer(programs, version, severity), cgroups(cgroup::usable())]
}

fn how_to_get_it(directory: &Path, kvm: &KvmSupport) -> String {
    if kvm.problem().is_some() {
        return "nothing to do: Firecracker needs KVM, which this host lacks; '--backend qemu' works \
                without"
            .into();
    }
    format!(
        "get a release from github.com/firecracker-microvm/firecracker; put its firecracker and \
         jailer on PATH or into {}, or name them with MAYFLY_FIRECRACKER_BIN and MAYFLY_JAILER_BIN",
        directory.display()
    )
}

/// The version that a program prints. `variable` names another program.
fn version_of(path: &Path, variable: &str) -> Result<FirecrackerVersion, Refusal> {
    let refuse = |why: String| {
        let hint = format!("reinstall a release of Firecracker, or name one with {variable}");
        Refusal::new(RefusalKind::Host, why).hint(hint)
    };
    match FirecrackerVersion::of(path) {
        Ok(Some(version)) => Ok(version),
        Ok(None) => Err(refuse(format!("{} names no version", path.display()))),
        Err(error) => Err(refuse(format!("{error:#}"))),
    }
}

/// Which Firecracker that is, or why `auto` does not select it.
fn selectable(
    path: &Path,
    version: FirecrackerVersion,
    selected: Result<()>,
) -> Result<String, Refusal> {
    let shown = format!("Firecracker {version} ({})", path.display());
    let obstacle = match version.check() {
        Err(too_old) => too_old.into(),
        Ok(()) => match selected {
            Ok(()) => return Ok(shown),
            Err(error) => error,
        },
    };
    let detail = format!("{shown}; auto does not select it, because {obstacle:#}");
    let hint = Refusal::find(&obstacle).and_then(|refusal| refusal.hint.clone());
    Err(Refusal { hint, ..Refusal::new(RefusalKind::Host, detail) })
}

fn jailer(
    programs: &BackendPrograms,
    firecracker: FirecrackerVersion,
    severity: CheckVerdict,
) -> HostCheck {
    let name = "jailer";
    let named = programs.resolve(&programs.jailer);
    let Some(path) = which::find(&named) else {
        let remedy = "it comes with every release of Firecracker: put it on PATH, or name it with \
                      MAYFLY_JAILER_BIN; or create VMs with '--no-jailer'";
        let detail = format!("{} is not installed", named.display());
        return HostCheck::lacks(name, CheckVerdict::Warning, detail, remedy);
    };
    let version = match version_of(&path, "MAYFLY_JAILER_BIN") {
        Ok(version) => version,
        Err(refusal) => return HostCheck::of(name, severity, Err(refusal)),
    };
    let mut detail = format!("jailer {version} ({})", path.display());
    let mut remedies = Vec::new();
    if version.jailer_follows_links() {
        detail.push_str(
            "; it has CVE-2026-1386: a local user who can write to a jail before the jailer does \
             can make it overwrite any file. mayfly creates each jail in a directory that only \
             root can write, so that is not possible here",
        );
        remedies.push("update to 1.13.2, 1.14.1 or newer");
    }
    if version != firecracker {
        detail.push_str(&format!("; firecracker is {firecracker}"));
        remedies.push("install both from one release, as Firecracker's documentation says");
    }
    if remedies.is_empty() {
        HostCheck::ok(name, detail)
    } else {
        HostCheck::lacks(name, CheckVerdict::Warning, detail, remedies.join("; "))
    }
}

/// The limits of a jailed VMM.
fn cgroups(usable: Option<CgroupHierarchy>) -> HostCheck {
    let ok = |version| {
        let detail = format!("version {version}: memory, CPU and processes of VMMs are limited");
        HostCheck::ok("cgroups", detail)
    };
    match usable {
        Some(CgroupHierarchy::V2) => ok(2),
        Some(CgroupHierarchy::V1) => ok(1),
        None => HostCheck::lacks(
            "cgroups",
            CheckVerdict::Warning,
            "not usable: memory, CPU and processes of VMMs are not limited",
            "mount control groups at /sys/fs/cgroup with the controllers memory, cpu and pids; in \
             a container, ask its host to let you write there",
        ),
    }
}
