//! Images: what VMs boot, and how it is made, kept and checked.
//!
//! An image is a directory in the artifacts directory, named after its profile: the kernel
//! (`vmlinux`), the initrd with the agent (`initrd.img`), the read-only root (`rootfs.ext4`), the seed
//! of each VM's own disk (`disk.ext4`), and `image.json`, which says what they are made of and has
//! their digests.
//!
//! Only [`ImageStore`] changes them: [`ImageStore::ensure`] builds an image that is missing or has another
//! recipe, and packs another agent into one that is otherwise right. A directory appears complete or not
//! at all. The slow step is an [`ImageBuilder`], here [`DebianBuilder`].

mod build_error;
mod builder;
mod debian;
pub mod digest;
pub mod digest_cache;
mod file_systems;
mod info;
pub(crate) mod initrd;
pub(crate) mod kernel;
mod locked;
pub(crate) mod modules;
mod progress;
pub mod sandbox;
mod scratch;
mod static_program;
mod store;

pub use builder::{ImageBuilder, ImageParts, PHASES};
pub use debian::{DebianBuilder, tools};
pub use file_systems::{FileSystemSize, make_disk, make_root_for};
pub use info::{
    DISK, FileInfo, ImageInfo, InitrdAgent, KERNEL, MODULES, PulledContent, ROOTFS, remedy,
};
pub use locked::{ImageVerification, LockedImage};
pub use progress::{ProgressLines, ProgressSink, SilentProgress};
pub use store::{ImageStore, check_agent};
