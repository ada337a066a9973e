//! Checks of the directories and of user namespaces.

use std::path::Path;

use nix::unistd::geteuid;

use crate::host::{confinement, directory, namespaces, ownership, socket};
use crate::lifecycle::manager::VmManager;
use crate::model::{CheckVerdict, HostCheck, Refusal, RefusalKind, VmId};
use crate::sys::file_system;

/// The space that an image and the disks of a few VMs need, in bytes.
const ENOUGH_SPACE: u64 = 4 << 30;

/// An ordinary user builds images in a user namespace.
pub fn user_namespaces() -> Vec<HostCheck> {
    if geteuid().is_root() {
        return Vec::new();
    }
    let subordinate = if namespaces::has_subordinate_ids() {
        HostCheck::ok("subuid", "you have subordinate user and group ids")
    } else {
        HostCheck::lacks(
            "subuid",
            CheckVerdict::Warning,
            "you have no subordinate user and group ids, which building images needs",
            "add some: sudo usermod --add-subuids 100000-165535 --add-subgids 100000-165535 $USER",
        )
    };
    let allowed = if namespaces::are_allowed() {
        HostCheck::ok("userns", "user namespaces are allowed")
    } else {
        HostCheck::lacks(
            "userns",
            CheckVerdict::Warning,
            "user namespaces are not allowed, which building images needs",
            "build images as root, or: sudo sysctl kernel.unprivileged_userns_clone=1",
        )
    };
    vec![allowed, subordinate]
}

/// A warning if the programs that read archives from strangers could reach other files.
pub fn landlock() -> Option<HostCheck> {
    (!confinement::can_restrict_files()).then(|| {
        HostCheck::lacks(
            "landlock",
            CheckVerdict::Warning,
            "this kernel has no Landlock of Linux 5.19 or later: a flaw in a program that unpacks an imported archive could \
             reach your other files",
            "import only archives that you trust, or use a kernel with CONFIG_SECURITY_LANDLOCK and landlock in its \
             'lsm=' list",
        )
    })
}

/// The directories, and the free space.
pub fn directories(manager: &VmManager) -> Vec<HostCheck> {
    let directories = &manager.settings.directories;
    let private = |path: &Path| {
        let note = if directory::is_private(path)? { "" } else { " (will be created)" };
        Ok::<_, anyhow::Error>(format!("{}{note}", path.display()))
    };
    let longest = manager.paths(&VmId::from_random([0; 16])).longest_socket();
    let sockets = private(&directories.run)
        .and_then(|shown| socket::check_length(&longest).map(|()| shown).map_err(Into::into));
    let mut checks = vec![
        HostCheck::of("state directory", CheckVerdict::Failed, private(&directories.state)),
        HostCheck::of("images", CheckVerdict::Failed, images(manager)),
        HostCheck::of("sockets", CheckVerdict::Failed, sockets),
        HostCheck::of("disk space", CheckVerdict::Warning, space(&directories.state)),
    ];
    checks.extend(shared_state(&directories.state));
    checks
}

/// A warning if other hosts may share the state directory.
fn shared_state(path: &Path) -> Option<HostCheck> {
    let network = file_system::network_at(existing(path)).ok()??;
    Some(HostCheck::lacks(
        "shared state",
        CheckVerdict::Warning,
        format!("{} is on a network file system ({network})", path.display()),
        "give each host a state directory of its own with --state-dir: locks between hosts may not work, and a \
         host cannot see the VMs of another",
    ))
}

/// The path itself, or the nearest directory above it that exists.
fn existing(path: &Path) -> &Path {
    path.ancestors().find(|path| path.exists()).unwrap_or(Path::new("/"))
}

/// The images may be root's, or on a read-only file system.
fn images(manager: &VmManager) -> anyhow::Result<String> {
    let artifacts = &manager.settings.directories.artifacts;
    let note = if directory::is_writable(artifacts) {
        if ownership::check_directory(artifacts)? { "" } else { " (will be created)" }
    } else if ownership::check_directory(artifacts)? {
        " (not writable: templates are kept in the state directory)"
    } else {
        return Err(Refusal::new(
            RefusalKind::Host,
            format!("{} does not exist, and you cannot create it", artifacts.display()),
        )
        .hint("name another directory with MAYFLY_ARTIFACTS_DIR")
        .into());
    };
    Ok(format!("{}{note}", artifacts.display()))
}

fn space(path: &Path) -> anyhow::Result<String> {
    let existing = existing(path);
    let free = file_system::free_at(existing)?;
    let detail = format!("{} MB free at {}", free / 1_000_000, existing.display());
    if free >= ENOUGH_SPACE {
        return Ok(detail);
    }
    Err(Refusal::new(RefusalKind::Host, detail)
        .hint("an image takes about 1 GB, and a VM's disk what its guest writes")
        .into())
}
