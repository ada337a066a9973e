//! The artifacts directory: images found, built, replaced, deleted.
//!
//! A killed build leaves a `.build-…` directory, whose profile's build lock is then free.

mod artifacts;
mod make;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};

use super::builder::{ImageBuilder, ImageParts};
use super::debian::DebianBuilder;
use super::digest::DigestMethod;
use super::digest_cache::DigestCache;
use super::info::{self, ImageInfo};
use super::locked::LockedImage;
use super::progress::{ProgressSink, SilentProgress};
use super::scratch::{ScratchDirectory, profile_of};
use crate::host::atomic_file;
use crate::host::directory::{self, DiskUsage};
use crate::host::lock::FileLock;
use crate::host::ownership;
use crate::model::{ImageRecipe, Profile, ProfileName, Refusal, RefusalKind};
use crate::sys::file_system::if_exists;
use artifacts::{ArtifactsDirectory, LockWait, USE_LIMIT};
use make::AgentProgram;

/// How often an image is made right before it is used. Once is enough, unless other commands change it each time.
const MAX_ATTEMPTS: usize = 10;

/// The images of one artifacts directory.
pub struct ImageStore {
    artifacts: ArtifactsDirectory,
    builder: Box<dyn ImageBuilder>,
}

/// Checks that the program at `agent` can be packed into an image.
pub fn check_agent(agent: &Path) -> Result<()> {
    AgentProgram::read(agent).map(|_| ())
}

impl ImageStore {
    /// The store in `root`, which is created if it is missing. Where this user cannot write, because it is root's or
    /// on a read-only file system, its images can be used, but not built, changed or deleted. Images are built from Debian packages, which
    /// come from `mirror` if a recipe names none.
    ///
    /// # Errors
    /// `Host` if another user owns the directory or can write to it.
    pub fn open(root: &Path, mirror: Option<String>) -> Result<ImageStore> {
        ImageStore::with_builder(root, Box::new(DebianBuilder { mirror }))
    }

    /// The store in `root` with this builder.
    pub fn with_builder(root: &Path, builder: Box<dyn ImageBuilder>) -> Result<ImageStore> {
        if !ownership::check_directory(root)? {
            directory::ensure_private(root)?;
        }
        let is_writable = directory::is_writable(root);
        let artifacts = ArtifactsDirectory { root: std::path::absolute(root)?, is_writable };
        let store = ImageStore { artifacts, builder };
        for (profile, left) in store.leftovers()? {
            // Held by a build that lives: then nothing is left of one.
            if make::has_taken(&store.artifacts, &profile, &left)
                && let Some(_build) = store.artifacts.try_lock_build(&profile)?
            {
                make::put_back(&store.artifacts, &profile, &left)?;
            }
        }
        Ok(store)
    }

    /// The directories of builds, and whose image each makes; none where this user cannot write.
    fn leftovers(&self) -> Result<Vec<(ProfileName, PathBuf)>> {
        let ArtifactsDirectory { root, is_writable } = &self.artifacts;
        let names = if *is_writable { directory::names(root)? } else { Vec::new() };
        let known = names.iter().filter_map(|name| Some((profile_of(name)?, root.join(name))));
        Ok(known.collect())
    }

    /// The images that are not damaged, by profile name. Waits for no lock.
    pub fn list(&self) -> Result<Vec<ImageInfo>> {
        let names = self.names()?;
        Ok(names.iter().filter_map(|name| self.info(name).ok().flatten()).collect())
    }

    /// What the image of a profile is made of, if there is one. Waits for no lock.
    pub fn info(&self, profile: &ProfileName) -> Result<Option<ImageInfo>> {
        let info = info::read(&self.artifacts.image(profile))?;
        if info.as_ref().is_some_and(|info| info.profile != *profile) {
            let why = format!("{} is that of another image", info::INFO);
            return Err(info::damaged(&self.artifacts.image(profile), &why).into());
        }
        Ok(info)
    }

    /// What the image of a profile takes on the disk.
    pub fn usage(&self, profile: &ProfileName) -> Result<DiskUsage> {
        Ok(directory::usage(&self.artifacts.image(profile)))
    }

    /// The profiles that have an image, damaged ones included.
    pub fn names(&self) -> Result<Vec<ProfileName>> {
        let names = directory::names(&self.artifacts.root)?.into_iter();
        let names = names.filter_map(|name| name.parse().ok());
        Ok(names.filter(|name| self.artifacts.image(name).join(info::INFO).exists()).collect())
    }

    /// The image of a profile, whatever its recipe and agent; `None` if there is none.
    ///
    /// # Errors
    /// `Busy` if replacing it takes longer than 30 seconds, `Host` if it is damaged.
    pub fn find(&self, profile: &ProfileName) -> Result<Option<LockedImage>> {
        let mut shared = self.artifacts.share(profile, &mut SilentProgress)?;
        if make::is_half_repacked(&self.artifacts.image(profile)) {
            drop(shared);
            let wait = LockWait::at_most(USE_LIMIT);
            let build = self.artifacts.lock_build(profile, wait, &mut SilentProgress)?;
            make::recover_repack(&self.artifacts, profile, &mut SilentProgress)?;
            drop(build);
            shared = self.artifacts.share(profile, &mut SilentProgress)?;
        }
        self.take(profile, shared)
    }

    /// The image of `profile` with the agent at `agent`. It is built if there is none with that recipe, and
    /// gets another initrd if only the agent differs.
    ///
    /// # Errors
    /// Those of [`ImageStore::build`].
    pub fn ensure(
        &self,
        profile: &Profile,
        agent: &Path,
        progress: &mut dyn ProgressSink,
    ) -> Result<LockedImage> {
        let name = &profile.name;
        for _ in 0..MAX_ATTEMPTS {
            if let Some(image) = self.current(profile, agent, progress)? {
                return Ok(image);
            }
            let build = self.artifacts.lock_build(name, LockWait::UntilCancelled, progress)?;
            make::recover_repack(&self.artifacts, name, progress)?;
            let agent = AgentProgram::read(agent)?;
            match self.info(name)? {
                Some(info) if info.recipe == profile.recipe => {
                    if info.agent.digest != agent.digest {
                        make::repack(&self.artifacts, info, &agent, progress)?;
                    }
                }
                _ => self.make(profile, &agent, progress)?,
            }
            drop(build);
            // Another command may change the image before this one shares its lock, so look again.
        }
        let message = format!("the image of {name} changes again and again");
        Err(Refusal::new(RefusalKind::Busy, message)
            .hint("try again when the commands that change it, or the agent's program, have ended")
            .into())
    }

    /// Builds the image of `profile` with the agent at `agent`, even if there is one. The old one is used
    /// until the new one is complete.
    ///
    /// # Errors
    /// `Host`, with a remedy, for a missing program or package, a broken network or a full disk;
    /// [`crate::host::tool::ToolInterrupted`] when `progress` says to give up. Then nothing is left behind,
    /// and an earlier image is still there.
    pub fn build(
        &self,
        profile: &Profile,
        agent: &Path,
        progress: &mut dyn ProgressSink,
    ) -> Result<LockedImage> {
        let build = self.artifacts.lock_build(&profile.name, LockWait::UntilCancelled, progress)?;
        self.make(profile, &AgentProgram::read(agent)?, progress)?;
        drop(build);
        self.ensure(profile, agent, progress)
    }

    /// Makes the image `name`, with the agent at `agent`, of the parts that `make` puts into its second
    /// directory: those of [`ImageBuilder::build`]. The first is for temporary files. An existing image of
    /// that name is used until the new one is complete. If it `is_current` when other commands that make it have ended,
    /// nothing is made.
    ///
    /// # Errors
    /// Those of [`ImageStore::build`] and of `make`.
    pub fn build_with(
        &self,
        name: &ProfileName,
        agent: &Path,
        progress: &mut dyn ProgressSink,
        is_current: impl FnOnce(&ImageInfo) -> bool,
        make: impl FnOnce(&Path, &Path, &mut dyn ProgressSink) -> Result<ImageParts>,
    ) -> Result<ImageInfo> {
        let agent = AgentProgram::read(agent)?;
        let _build = self.artifacts.lock_build(name, LockWait::UntilCancelled, progress)?;
        // A damaged one is replaced.
        if let Ok(Some(info)) = self.info(name)
            && is_current(&info)
        {
            return Ok(info);
        }
        make::assemble(&self.artifacts, self.builder.as_ref(), name, &agent, progress, make)?;
        self.info(name)?.context("the image was deleted meanwhile")
    }

    /// Deletes the image of a profile; false if there was none. The VMMs of running VMs have its files open
    /// and keep them.
    ///
    /// # Errors
    /// `Busy` if it is being built, or in use for longer than 30 seconds.
    pub fn remove(&self, profile: &ProfileName) -> Result<bool> {
        self.remove_if(profile, || Ok(true))
    }

    /// Deletes the image of a profile if `is_unwanted` says so while no command uses the image.
    ///
    /// # Errors
    /// Those of [`ImageStore::remove`] and of `is_unwanted`.
    pub fn remove_if(
        &self,
        profile: &ProfileName,
        is_unwanted: impl FnOnce() -> Result<bool>,
    ) -> Result<bool> {
        let directory = self.artifacts.image(profile);
        if std::fs::symlink_metadata(&directory).is_err() {
            return Ok(false);
        }
        let at_once = LockWait::at_most(Duration::ZERO);
        let build = self.artifacts.lock_build(profile, at_once, &mut SilentProgress)?;
        let wait = LockWait::at_most(USE_LIMIT);
        let exclusive = self.artifacts.lock_use(profile, wait, &mut SilentProgress)?;
        if !is_unwanted()? {
            return Ok(false);
        }
        let root = &self.artifacts.root;
        let scratch = ScratchDirectory::create(root, profile, self.builder.as_ref())?;
        // Renamed before it is deleted, so that a part of it is never seen.
        let removed = std::fs::rename(&directory, scratch.path().join(make::OLD));
        let removed = if_exists(removed)?.is_some();
        // A power cut must not bring an image back that was said to be deleted.
        atomic_file::sync_directory_of(&directory)?;
        drop(exclusive);
        scratch.delete()?;
        drop(build);
        Ok(removed)
    }

    /// Deletes what killed builds have left, or with `dry_run` only finds it, and returns it.
    pub fn sweep(&self, dry_run: bool) -> Result<Vec<PathBuf>> {
        let mut found = Vec::new();
        for (profile, path) in self.leftovers()? {
            // The build that made the directory held this lock: if it is free, the build is dead.
            if let Some(_build) = self.artifacts.try_lock_build(&profile)? {
                if !dry_run {
                    make::put_back(&self.artifacts, &profile, &path)?;
                    self.builder.delete(&path)?;
                }
                found.push(path);
            }
        }
        Ok(found)
    }

    /// Builds the image and puts it in place. The caller holds the build lock.
    fn make(
        &self,
        profile: &Profile,
        agent: &AgentProgram,
        progress: &mut dyn ProgressSink,
    ) -> Result<()> {
        let ImageRecipe::Debian(recipe) = &profile.recipe else {
            return Err(make::cannot_be_made(profile).into());
        };
        let (artifacts, builder) = (&self.artifacts, self.builder.as_ref());
        let build = |work: &Path, image: &Path, progress: &mut dyn ProgressSink| {
            let kernel_release = builder.build(recipe, work, image, progress)?;
            Ok(ImageParts { kernel_release, recipe: profile.recipe.clone(), pulled: None })
        };
        make::assemble(artifacts, builder, &profile.name, agent, progress, build)
    }

    /// The image if it can be used as it is.
    fn current(
        &self,
        profile: &Profile,
        agent: &Path,
        progress: &mut dyn ProgressSink,
    ) -> Result<Option<LockedImage>> {
        let directory = self.artifacts.image(&profile.name);
        let shared = self.artifacts.share(&profile.name, progress)?;
        let Some(image) = self.take(&profile.name, shared)? else { return Ok(None) };
        if image.info().recipe != profile.recipe || make::is_half_repacked(&directory) {
            return Ok(None);
        }
        let mut cache = DigestCache::load(&directory);
        let expected = &image.info().agent.digest;
        let digest = cache
            .digest(make::AGENT, agent, DigestMethod::Whole, Some(expected))
            .map_err(|error| make::no_agent(agent, &error))?;
        let _ = cache.save(&directory);
        Ok((digest.value == *expected).then_some(image))
    }

    fn take(&self, profile: &ProfileName, shared: FileLock) -> Result<Option<LockedImage>> {
        let directory = self.artifacts.image(profile);
        let info = self.info(profile)?;
        Ok(info.map(|info| LockedImage::new(directory, info, shared)))
    }
}
