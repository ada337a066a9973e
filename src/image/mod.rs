//! Images: what VMs boot, how it is made, kept and checked.
//!
//! An image is a directory in the artifacts directory, named after its profile: the kernel
//! (`vmlinux`), the initrd with the agent (`initrd.img`), the read-only root (`rootfs.ext4`), the seed
//! of each VM's own disk (`disk.ext4`), and `image.json`, which tells what they are made of and has
//! their digests.
//!
//! [`Store`] gives them out and is the only one to change them: [`Store::ensure`] builds what is
//! missing or made from another recipe, and packs another agent into an image that is otherwise right.
//! A directory appears complete or not at all. The slow step is a [`Builder`], here [`Debian`].

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

pub use builder::{Builder, PHASES};
pub use debian::{Debian, tools};
pub use file_systems::{Room, make_disk, make_root_for};
pub use handle::{Image, Verification};
pub use info::{AgentInfo, DISK, FileInfo, ImageInfo, KERNEL, MODULES, ROOTFS};
pub use progress::{Lines, Progress, Silent};
pub use store::{ImageParts, Store, check_agent};
