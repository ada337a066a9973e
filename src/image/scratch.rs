//! The directory in which an image is built, in the artifacts directory.

use std::path::{Path, PathBuf};

use anyhow::Result;

use super::builder::ImageBuilder;
use crate::host::directory;
use crate::model::ProfileName;
use crate::sys::random;

const PREFIX: &str = ".build-";

/// A build directory, which is deleted when this value is dropped. If the process dies first, the directory
/// stays until [`super::ImageStore::sweep`] finds it.
pub struct ScratchDirectory<'a> {
    path: PathBuf,
    builder: &'a dyn ImageBuilder,
}

impl<'a> ScratchDirectory<'a> {
    /// Makes `.build-<profile>-<pid>-<random>` in `root`. The caller holds the profile's build lock while
    /// the directory exists; so other commands know that it is in use.
    pub fn create(
        root: &Path,
        profile: &ProfileName,
        builder: &'a dyn ImageBuilder,
    ) -> Result<ScratchDirectory<'a>> {
        let name = format!("{PREFIX}{profile}-{}-{}", std::process::id(), random::hex::<4>()?);
        let path = root.join(name);
        directory::create_new(&path)?;
        Ok(ScratchDirectory { path, builder })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Deletes the directory.
    pub fn delete(self) -> Result<()> {
        self.builder.delete(&self.path)
    }
}

impl Drop for ScratchDirectory<'_> {
    fn drop(&mut self) {
        let _ = self.builder.delete(&self.path);
    }
}

/// The profile of a build directory with this name; `None` for any other name.
pub fn profile_of(name: &str) -> Option<ProfileName> {
    let rest = name.strip_prefix(PREFIX)?;
    let (rest, random) = rest.rsplit_once('-')?;
    let (profile, pid) = rest.rsplit_once('-')?;
    let ours = random.len() == 8
        && random.bytes().all(|byte| byte.is_ascii_hexdigit())
        && !pid.is_empty()
        && pid.bytes().all(|byte| byte.is_ascii_digit());
    profile.parse().ok().filter(|_| ours)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn build_directories_are_known_by_their_names() {
        let profile = profile_of(".build-debian-base-123-0a1b2c3d");
        assert_eq!(profile.unwrap().as_str(), "debian-base");
        for other in
            ["debian-base", ".build-", ".build-x", ".build-x-1-zzzzzzzz", ".build--1-0a1b2c3d"]
        {
            assert_eq!(profile_of(other), None, "{other}");
        }
    }
}
