//! The artifacts directory: images found, built, replaced, deleted.
//!
//! Locks for each profile, beside the images and never removed:
//!
//! - `.<profile>.build` is held alone by whoever builds or changes the image, for as long as that
//!   takes. A second builder waits for it, and then finds the image made.
//! - `.<profile>.use` is shared by every [`LockedImage`] in hand, and held alone for the instant in which a
//!   new image takes the place of the old one. So a rebuild never keeps a VM from starting, and
//!   nobody's files change under them.
//! - `.<profile>.turn` is passed through on the way to sharing `.use`, and held by a builder that has
//!   waited for its instant too long.
//!
//! Always taken in this order. What a killed build leaves is a `.build-…` directory whose profile's
//! build lock is free.

mod lock;
mod make;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::builder::ImageBuilder;
use super::debian::DebianBuilder;
use super::digest::DigestMethod;
use super::handle::{self, LockedImage};
use super::info::{self, FoundImage, ImageInfo};
use super::progress::{ProgressSink, SilentProgress};
use super::scratch;
use super::verified::DigestCache;
use crate::host::directory::{self, DiskUsage};
use crate::host::lock::FileLock;
use crate::model::{Profile, ProfileName, Refusal};
use lock::{LockWait, wait_for};
use make::AgentProgram;
pub use make::ImageParts;

/// How long a command that only needs an image waits for the instant in which it is replaced, and one
/// that deletes it for those that hold it: a VM lets go of its image once its VMM has started.
const PATIENCE: Duration = Duration::from_secs(30);

/// How long a builder lets others go first, before it lets nobody new in.
const POLITENESS: Duration = Duration::from_secs(1);

/// The images of one artifacts directory.
pub struct ImageStore {
    root: PathBuf,
    builder: Box<dyn ImageBuilder>,
}

/// Whether the program at `agent` can be packed into an image.
pub fn check_agent(agent: &Path) -> Result<()> {
    AgentProgram::read(agent).map(|_| ())
}

impl ImageStore {
    /// The store in `root`, made if need be. Images are built from Debian packages, which come from
    /// that mirror where a recipe names none.
    ///
    /// Errors: `Host` when the directory is somebody else's or writable by others.
    pub fn open(root: &Path, mirror: Option<String>) -> Result<ImageStore> {
        ImageStore::with_builder(root, Box::new(DebianBuilder { mirror }))
    }

    /// The same with another way to make images.
    pub fn with_builder(root: &Path, builder: Box<dyn ImageBuilder>) -> Result<ImageStore> {
        directory::ensure_private(root)?;
        Ok(ImageStore { root: std::path::absolute(root)?, builder })
    }

    /// What images there are, by profile name. Waits for nobody; leaves out damaged ones.
    pub fn list(&self) -> Result<Vec<ImageInfo>> {
        let names = self.names()?;
        Ok(names.iter().filter_map(|name| self.info(name).ok().flatten()).collect())
    }

    /// What the image of a profile is made of, if there is one. Waits for nobody.
    pub fn info(&self, profile: &ProfileName) -> Result<Option<ImageInfo>> {
        match info::read(&self.place(profile))? {
            FoundImage::Image(info) => Ok(Some(*info)),
            FoundImage::Nothing | FoundImage::OtherSchema => Ok(None),
        }
    }

    /// What the image of a profile takes on the disk.
    pub fn usage(&self, profile: &ProfileName) -> Result<DiskUsage> {
        // Tests have links to images that all of them share.
        let directory = self.place(profile);
        Ok(directory::usage(&directory.canonicalize().unwrap_or(directory)))
    }

    /// The profiles that there are images of, the damaged ones too.
    pub fn names(&self) -> Result<Vec<ProfileName>> {
        let names = directory::names(&self.root)?.into_iter();
        let names = names.filter_map(|name| name.parse().ok());
        Ok(names.filter(|name| self.place(name).join(info::INFO).exists()).collect())
    }

    /// Where the image of a profile is.
    fn place(&self, profile: &ProfileName) -> PathBuf {
        self.root.join(profile.as_str())
    }

    /// The image of a profile, whatever recipe and agent it has; `None` where there is none.
    ///
    /// Errors: `Busy` when it is being replaced for longer than 30 seconds, `Host` when it is damaged.
    pub fn find(&self, profile: &ProfileName) -> Result<Option<LockedImage>> {
        let shared = self.share(profile, &mut SilentProgress)?;
        if make::is_half_repacked(&self.place(profile)) {
            drop(shared);
            let build = self.lock_build(
                profile,
                LockWait::Until(Instant::now() + PATIENCE),
                &mut SilentProgress,
            )?;
            self.settle(profile, &mut SilentProgress)?;
            drop(build);
            let shared = self.share(profile, &mut SilentProgress)?;
            return self.take(profile, shared);
        }
        self.take(profile, shared)
    }

    /// The image of `profile` with the agent at `agent`: as it is if it has that recipe and that
    /// agent, with another initrd if only the agent differs, and built anew otherwise.
    ///
    /// Errors: what [`ImageStore::build`] gives.
    pub fn ensure(
        &self,
        profile: &Profile,
        agent: &Path,
        progress: &mut dyn ProgressSink,
    ) -> Result<LockedImage> {
        loop {
            if let Some(image) = self.current(profile, agent, progress)? {
                return Ok(image);
            }
            let build = self.lock_build(&profile.name, LockWait::WhileWanted, progress)?;
            self.settle(&profile.name, progress)?;
            let agent = AgentProgram::read(agent)?;
            match self.info(&profile.name)? {
                Some(info) if info.recipe == profile.recipe => {
                    if info.agent.digest != agent.digest {
                        self.repack(info, &agent, progress)?;
                    }
                }
                _ => self.make(profile, &agent, progress)?,
            }
            drop(build);
            // Round again: somebody may have been faster than our sharing of what we made.
        }
    }

    /// Builds the image of `profile` with the agent at `agent`, whether there is one or not. The old
    /// one serves until the new one is complete.
    ///
    /// Errors: `Host` for a missing program or package, a network or a disk that will not do, each
    /// with its remedy; [`crate::host::tool::ToolInterrupted`] when `progress` says to give up. In every
    /// case nothing is left behind, and an image that was there is still there.
    pub fn build(
        &self,
        profile: &Profile,
        agent: &Path,
        progress: &mut dyn ProgressSink,
    ) -> Result<LockedImage> {
        let build = self.lock_build(&profile.name, LockWait::WhileWanted, progress)?;
        self.make(profile, &AgentProgram::read(agent)?, progress)?;
        drop(build);
        self.ensure(profile, agent, progress)
    }

    /// Makes the image `name`, with the agent at `agent`, of the parts that `make` puts into its second
    /// directory: those of [`ImageBuilder::build`]. The first is for temporary files. An existing image of
    /// that name serves until the new one is complete.
    ///
    /// # Errors
    /// Those of [`ImageStore::build`] and of `make`.
    pub fn build_with(
        &self,
        name: &ProfileName,
        agent: &Path,
        progress: &mut dyn ProgressSink,
        make: impl FnOnce(&Path, &Path, &mut dyn ProgressSink) -> Result<ImageParts>,
    ) -> Result<ImageInfo> {
        let agent = AgentProgram::read(agent)?;
        let _build = self.lock_build(name, LockWait::WhileWanted, progress)?;
        self.put_together(name, &agent, progress, make)?;
        self.info(name)?.context("the image was deleted meanwhile")
    }

    /// Deletes the image of a profile; false if there was none. VMs that run keep the files they have
    /// open.
    ///
    /// Errors: `Busy` while it is being built, or is in use for longer than 30 seconds.
    pub fn remove(&self, profile: &ProfileName) -> Result<bool> {
        self.remove_if(profile, || Ok(true))
    }

    /// The same if `is_unwanted` says so, at a moment when nobody has the image in hand.
    pub fn remove_if(
        &self,
        profile: &ProfileName,
        is_unwanted: impl FnOnce() -> Result<bool>,
    ) -> Result<bool> {
        let directory = self.place(profile);
        if std::fs::symlink_metadata(&directory).is_err() {
            return Ok(false);
        }
        let build =
            self.lock_build(profile, LockWait::Until(Instant::now()), &mut SilentProgress)?;
        let alone = self.take_alone(
            profile,
            LockWait::Until(Instant::now() + PATIENCE),
            &mut SilentProgress,
        )?;
        if !is_unwanted()? {
            return Ok(false);
        }
        let scratch =
            scratch::ScratchDirectory::create(&self.root, profile, self.builder.as_ref())?;
        // First out of sight, then deleted: nobody ever sees a part of it.
        let removed = match std::fs::rename(&directory, scratch.path().join("old")) {
            Ok(()) => true,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => false,
            Err(error) => return Err(error.into()),
        };
        drop(alone);
        scratch.delete()?;
        drop(build);
        Ok(removed)
    }

    /// What killed builds have left. Nothing that is in use is among it.
    pub fn leftovers(&self) -> Result<Vec<PathBuf>> {
        let mut found = Vec::new();
        self.for_each_leftover(&mut |path| {
            found.push(path.to_owned());
            Ok(())
        })?;
        Ok(found)
    }

    /// Deletes what killed builds have left, and says what that was.
    pub fn sweep(&self) -> Result<Vec<PathBuf>> {
        let mut swept = Vec::new();
        self.for_each_leftover(&mut |path| {
            self.builder.delete(path)?;
            swept.push(path.to_owned());
            Ok(())
        })?;
        Ok(swept)
    }

    fn for_each_leftover(&self, visit: &mut dyn FnMut(&Path) -> Result<()>) -> Result<()> {
        for name in directory::names(&self.root)? {
            let Some(profile) = scratch::profile_of(&name) else { continue };
            // Free: whoever made the directory held this lock, and is dead.
            if let Some(_build) = FileLock::try_acquire(&self.build_lock(&profile))? {
                visit(&self.root.join(&name))?;
            }
        }
        Ok(())
    }

    /// The image if it can be used as it is.
    fn current(
        &self,
        profile: &Profile,
        agent: &Path,
        progress: &mut dyn ProgressSink,
    ) -> Result<Option<LockedImage>> {
        let directory = self.place(&profile.name);
        let shared = self.share(&profile.name, progress)?;
        let Some(image) = self.take(&profile.name, shared)? else { return Ok(None) };
        if image.info().recipe != profile.recipe || make::is_half_repacked(&directory) {
            return Ok(None);
        }
        let mut verified = DigestCache::load(&directory);
        let digest = verified
            .digest(make::AGENT, agent, DigestMethod::Whole)
            .map_err(|error| make::no_agent(agent, &error))?;
        let _ = verified.save(&directory);
        Ok((digest.value == image.agent_digest()).then_some(image))
    }

    fn take(&self, profile: &ProfileName, shared: FileLock) -> Result<Option<LockedImage>> {
        let directory = self.place(profile);
        match info::read(&directory)? {
            FoundImage::Image(info) => Ok(Some(LockedImage::new(directory, *info, shared))),
            FoundImage::Nothing | FoundImage::OtherSchema => Ok(None),
        }
    }

    fn share(&self, profile: &ProfileName, progress: &mut dyn ProgressSink) -> Result<FileLock> {
        let what = format!("the image of {profile}");
        let wait = LockWait::Until(Instant::now() + PATIENCE);
        let _turn = wait_for(&self.turn_lock(profile), FileLock::try_share, &what, wait, progress)?;
        wait_for(&self.use_lock(profile), FileLock::try_share, &what, wait, progress)
    }

    fn take_alone(
        &self,
        profile: &ProfileName,
        wait: LockWait,
        progress: &mut dyn ProgressSink,
    ) -> Result<FileLock> {
        let what = format!("the image of {profile}");
        let path = self.use_lock(profile);
        let polite = LockWait::Until(Instant::now() + POLITENESS);
        match wait_for(&path, FileLock::try_acquire, &what, polite, &mut SilentProgress) {
            Err(error) if Refusal::find(&error).is_some() => {}
            taken_or_broken => return taken_or_broken,
        }
        // Those who share it overlap without end; from here on nobody new is let in.
        let _turn =
            wait_for(&self.turn_lock(profile), FileLock::try_acquire, &what, wait, progress)?;
        wait_for(&path, FileLock::try_acquire, &what, wait, progress)
    }

    fn lock_build(
        &self,
        profile: &ProfileName,
        wait: LockWait,
        progress: &mut dyn ProgressSink,
    ) -> Result<FileLock> {
        let path = self.build_lock(profile);
        let what = format!("the building of the image of {profile}");
        wait_for(&path, FileLock::try_acquire, &what, wait, progress)
    }

    fn build_lock(&self, profile: &ProfileName) -> PathBuf {
        self.root.join(format!(".{profile}.build"))
    }

    fn turn_lock(&self, profile: &ProfileName) -> PathBuf {
        self.root.join(format!(".{profile}.turn"))
    }

    fn use_lock(&self, profile: &ProfileName) -> PathBuf {
        self.root.join(format!(".{profile}.use"))
    }
}
