//! Images: what VMs boot, how it is made, kept and checked.
//!
//! An image is a directory in the artifacts directory, named after its profile: the kernel
//! (`vmlinux`), the initrd with the agent (`initrd.img`), the read-only root (`rootfs.ext4`), the seed
//! of each VM's own disk (`disk.ext4`), and `image.json`, which tells what they are made of and has
//! their digests.
//!
//! [`ImageStore`] gives them out and is the only one to change them: [`ImageStore::ensure`] builds what is
//! missing or made from another recipe, and packs another agent into an image that is otherwise right.
//! A directory appears complete or not at all. The slow step is a [`ImageBuilder`], here [`DebianBuilder`].

mod builder;
mod debian;
pub mod digest;
mod file_systems;
mod handle;
mod info;
mod initrd;
mod kernel;
mod modules;
mod progress;
pub mod sandbox;
mod scratch;
mod static_program;
mod store;
mod trouble;
pub mod verified;

pub use builder::{ImageBuilder, PHASES};
pub use debian::{DebianBuilder, tools};
pub use file_systems::{FileSystemSize, make_disk, make_root_for};
pub use handle::{ImageVerification, LockedImage};
pub use info::{DISK, FileInfo, ImageInfo, InitrdAgent, KERNEL, MODULES, ROOTFS};
pub use progress::{ProgressLines, ProgressSink, SilentProgress};
pub use store::{ImageParts, ImageStore, check_agent};
