//! A guest's mounts.

/// Handles on the file systems.
#[derive(Debug)]
pub struct Mounts {}

impl Mounts {
    /// Brings everything to the disk.
    pub fn settle(&self) {
        nix::unistd::sync();
    }
}
