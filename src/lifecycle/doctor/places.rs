//! Where mayfly keeps things, and what building images there takes.

use std::path::Path;

use nix::sys::statvfs::statvfs;
use nix::unistd::geteuid;

use super::{Check, Verdict};
use crate::host::{directory, namespaces, socket};
use crate::lifecycle::manager::Manager;
use crate::model::{Kind, Refusal, VmId};

/// An image and a few VMs' disks take this much; less is not wrong, but soon will be.
const ROOMY: u64 = 4 << 30;

/// An ordinary user builds images in a user namespace.
pub fn user_namespaces() -> Vec<Check> {
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

/// Where things are kept, and whether there is room.
pub fn directories(manager: &Manager) -> Vec<Check> {
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
