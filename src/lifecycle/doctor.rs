//! What this host can do, and what it lacks.

use std::path::Path;

use nix::sys::statvfs::statvfs;
use nix::unistd::geteuid;
use serde::Serialize;

use super::manager::Manager;
use crate::backend::{self, Wish};
use crate::host::kvm::Kvm;
use crate::host::tool::Tool;
use crate::host::{directory, namespaces, program, socket};
use crate::image;
use crate::model::{BackendKind, Isolation, Kind, Refusal, VmId};

/// An image and a few VMs' disks take this much; less is not wrong, but soon will be.
const ROOMY: u64 = 4 << 30;

/// The outcome of one check.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    Ok,
    /// Something is missing that mayfly can do without.
    Warning,
    Failed,
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Check {
    pub name: &'static str,
    pub verdict: Verdict,
    pub detail: String,
    pub remedy: Option<String>,
}

/// All of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Diagnosis {
    /// Whether at least one real backend works.
    pub usable: bool,
    /// What `auto` takes here.
    pub backend: Option<BackendKind>,
    pub isolation: Option<Isolation>,
    pub checks: Vec<Check>,
}

impl Check {
    fn ok(name: &'static str, detail: impl Into<String>) -> Check {
        Check { name, verdict: Verdict::Ok, detail: detail.into(), remedy: None }
    }

    fn lacks(
        name: &'static str,
        verdict: Verdict,
        detail: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Check {
        Check { name, verdict, detail: detail.into(), remedy: Some(remedy.into()) }
    }

    fn of<E: Into<anyhow::Error>>(
        name: &'static str,
        verdict: Verdict,
        result: Result<String, E>,
    ) -> Check {
        match result {
            Ok(detail) => Check::ok(name, detail),
            Err(error) => {
                let error = error.into();
                let refusal = error.downcast_ref::<Refusal>();
                let remedy = refusal.and_then(|refusal| refusal.hint.clone());
                Check { name, verdict, detail: format!("{error:#}"), remedy }
            }
        }
    }
}

/// Looks at everything mayfly needs, and changes nothing.
pub fn diagnose(manager: &Manager) -> Diagnosis {
    let selected = manager.programs().and_then(|programs| {
        let accelerator = manager.settings.accelerator;
        backend::select(Wish { accelerator, ..Wish::default() }, &programs)
    });
    let mut checks = vec![kvm(), qemu(manager)];
    checks.extend(firecracker(manager));
    checks.push(Check::of("agent", Verdict::Failed, agent(manager)));
    checks.extend(image::tools().iter().map(tool));
    checks.extend(user_namespaces());
    checks.extend(places(manager));
    let backend = selected.as_ref().ok().map(|backend| backend.kind());
    let isolation = selected.as_ref().ok().map(|backend| backend.accelerator().isolation());
    Diagnosis { usable: selected.is_ok(), backend, isolation, checks }
}

fn kvm() -> Check {
    let kvm = Kvm::probe();
    match (kvm.problem(), kvm.remedy()) {
        (Some(problem), Some(remedy)) => Check::lacks("kvm", Verdict::Warning, problem, remedy),
        _ => Check::ok("kvm", "hardware virtualization works"),
    }
}

fn qemu(manager: &Manager) -> Check {
    let named = &manager.settings.qemu_bin;
    let Some(path) = program::find(named) else {
        return Check::lacks(
            "qemu",
            Verdict::Failed,
            format!("{} is not installed", named.display()),
            "install it: apt install qemu-system-x86",
        );
    };
    Check::of("qemu", Verdict::Failed, version(&path))
}

fn firecracker(manager: &Manager) -> Vec<Check> {
    let settings = &manager.settings;
    let programs = [("firecracker", &settings.firecracker_bin), ("jailer", &settings.jailer_bin)];
    let look = |(name, named): (&'static str, &std::path::PathBuf)| match program::find(named) {
        Some(path) => Check::of(name, Verdict::Warning, version(&path)),
        None => Check::lacks(
            name,
            Verdict::Warning,
            "not installed",
            "not needed: this version of mayfly runs VMs with qemu",
        ),
    };
    programs.into_iter().map(look).collect()
}

/// The first line of what a program says about its version.
fn version(path: &Path) -> anyhow::Result<String> {
    let said = program::output(path, &["--version"])?;
    Ok(format!("{} ({})", said.lines().next().unwrap_or_default().trim(), path.display()))
}

fn agent(manager: &Manager) -> anyhow::Result<String> {
    let path = manager.agent()?;
    image::check_agent(&path)?;
    Ok(path.display().to_string())
}

/// A missing tool stops nobody from using images that are built.
fn tool(tool: &Tool) -> Check {
    Check::of(tool.program, Verdict::Warning, tool.find().map(|path| path.display().to_string()))
}

/// An ordinary user builds images in a user namespace.
fn user_namespaces() -> Vec<Check> {
    if geteuid().is_root() {
        return Vec::new();
    }
    let subordinate = match namespaces::has_subordinate_ids() {
        true => Check::ok("subuid", "you have subordinate user and group ids"),
        false => Check::lacks(
            "subuid",
            Verdict::Warning,
            "you have no subordinate user and group ids, which building images needs",
            "add some: sudo usermod --add-subuids 100000-165535 --add-subgids 100000-165535 $USER",
        ),
    };
    let allowed = match namespaces::are_allowed() {
        true => Check::ok("userns", "user namespaces are allowed"),
        false => Check::lacks(
            "userns",
            Verdict::Warning,
            "user namespaces are not allowed, which building images needs",
            "build images as root, or: sudo sysctl kernel.unprivileged_userns_clone=1",
        ),
    };
    vec![allowed, subordinate]
}

fn places(manager: &Manager) -> Vec<Check> {
    let directories = &manager.settings.directories;
    let private = |path: &Path| {
        let will_be_made = if directory::is_private(path)? { "" } else { " (will be made)" };
        Ok::<_, anyhow::Error>(format!("{}{will_be_made}", path.display()))
    };
    let longest = manager.paths(&VmId::from_random([0; 16])).longest_socket();
    let sockets = private(&directories.run)
        .and_then(|shown| socket::check_length(&longest).map(|()| shown).map_err(Into::into));
    vec![
        Check::of("state directory", Verdict::Failed, private(&directories.state)),
        Check::of("images", Verdict::Failed, private(&directories.artifacts)),
        Check::of("sockets", Verdict::Failed, sockets),
        Check::of("disk space", Verdict::Warning, space(&directories.state)),
    ]
}

fn space(path: &Path) -> anyhow::Result<String> {
    let existing = path.ancestors().find(|path| path.exists()).unwrap_or(Path::new("/"));
    let about = statvfs(existing)?;
    let free = about.blocks_available() * about.fragment_size();
    let detail = format!("{} MB free at {}", free / 1_000_000, existing.display());
    match free >= ROOMY {
        true => Ok(detail),
        false => Err(Refusal::new(Kind::Host, detail)
            .hint("an image takes about 1 GB, and a VM's disk what its guest writes")
            .into()),
    }
}
