//! Making an image, and giving one another agent, so that neither is ever seen half done.

use std::collections::BTreeMap;
use std::fs::{self, File, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;

use super::artifacts::{ArtifactsDirectory, LockWait};
use crate::host::seal::seal;
use crate::host::tool::ToolInterrupted;
use crate::host::{atomic_file, clock, directory, input};
use crate::image::builder::{ImageBuilder, ImageParts, PHASES};
use crate::image::digest_cache::DigestCache;
use crate::image::info::{
    self, FILES, FileInfo, INFO, INITRD, ImageInfo, InitrdAgent, MODULES, SCHEMA,
};
use crate::image::progress::ProgressSink;
use crate::image::scratch::{ScratchDirectory, profile_of};
use crate::image::{digest, initrd, locked, static_program};
use crate::model::{ImageRecipe, ImportRecipe, Profile, ProfileName, Refusal, RefusalKind};

/// The agent's name in the cache of digests.
pub const AGENT: &str = "agent";

/// An initrd that is about to replace the old one. While it is there, `image.json` may describe either.
const NEW_INITRD: &str = "initrd.img.new";

/// In a build directory: the new image until it is in place, and the one that it replaced.
const NEW: &str = "image";
pub const OLD: &str = "old";

/// Longer than a tick of the clock that stamps files: a cached digest needs an older file.
const TICK: Duration = Duration::from_millis(12);

/// The program that becomes `/init`.
pub struct AgentProgram {
    pub content: Vec<u8>,
    pub digest: String,
}

impl AgentProgram {
    pub fn read(path: &Path) -> Result<AgentProgram> {
        let content = fs::read(path).map_err(|error| no_agent(path, &error.into()))?;
        static_program::check(&content).map_err(|error| no_agent(path, &error))?;
        let digest = digest::of_bytes(&content);
        Ok(AgentProgram { content, digest })
    }

    fn info(&self) -> InitrdAgent {
        let version = env!("CARGO_PKG_VERSION").to_owned();
        InitrdAgent { version, digest: self.digest.clone() }
    }
}

pub fn no_agent(path: &Path, error: &anyhow::Error) -> Refusal {
    Refusal::new(
        RefusalKind::Host,
        format!("the agent {} cannot be used: {error:#}", path.display()),
    )
    .hint("install mayfly-agent beside mayfly, as 'make install' and 'cargo install' do")
}

/// The refusal to build an image that others packed.
pub fn cannot_be_made(profile: &Profile) -> Refusal {
    let name = &profile.name;
    let refuse = |why| Refusal::new(RefusalKind::WrongState, format!("the image of {name} {why}"));
    match &profile.recipe {
        ImageRecipe::Pulled(pull) => refuse("has not been pulled")
            .hint(format!("pull it: mayfly image pull {} {name}", pull.reference)),
        ImageRecipe::Imported(ImportRecipe { source, .. }) => {
            refuse("was imported, and cannot be built")
                .hint(format!("import it again: mayfly image import {source} {name}"))
        }
        ImageRecipe::Debian(_) => refuse("cannot be built"),
    }
}

/// Whether a killed command may have left an initrd that `image.json` does not describe.
pub fn is_half_repacked(image: &Path) -> bool {
    fs::symlink_metadata(image.join(NEW_INITRD)).is_ok()
}

/// Lets `make` put the parts of an image into a new directory, and makes it the image of `name`. The
/// caller holds the build lock.
pub fn assemble(
    artifacts: &ArtifactsDirectory,
    builder: &dyn ImageBuilder,
    name: &ProfileName,
    agent: &AgentProgram,
    progress: &mut dyn ProgressSink,
    make: impl FnOnce(&Path, &Path, &mut dyn ProgressSink) -> Result<ImageParts>,
) -> Result<()> {
    clear_leftovers(artifacts, builder, name)?;
    let scratch = ScratchDirectory::create(&artifacts.root, name, builder)?;
    let (work, image) = (scratch.path().join("work"), scratch.path().join(NEW));
    directory::create_new(&work)?;
    directory::create_new(&image)?;
    let parts = make(&work, &image, progress)?;

    progress.phase("packing the agent and taking digests", PHASES, PHASES);
    let modules = input::read_regular(&image.join(MODULES)).context("cannot read the modules")?;
    atomic_file::write_new(&image.join(INITRD), &packed(modules, agent)?)?;
    set_modes_and_sync(&image)?;
    std::thread::sleep(TICK);
    let mut cache = DigestCache::default();
    let mut files = BTreeMap::new();
    for (file, method, _) in FILES {
        if progress.cancelled() {
            return Err(ToolInterrupted.into());
        }
        let digest = cache.digest(file, &image.join(file), method, None)?;
        files.insert(file.to_owned(), FileInfo { size: digest.size, digest: digest.value });
    }
    let info = ImageInfo {
        schema: SCHEMA,
        profile: name.clone(),
        recipe: parts.recipe,
        pulled: parts.pulled,
        kernel_release: parts.kernel_release,
        built_at: clock::unix_time().as_secs_f64(),
        agent: agent.info(),
        files,
    };
    write_info(&image, &info)?;
    cache.save(&image)?;

    if progress.cancelled() {
        return Err(ToolInterrupted.into());
    }
    let exclusive = artifacts.lock_use(name, LockWait::UntilCancelled, progress)?;
    let target = artifacts.image(name);
    put_in_place(&image, &target, &scratch.path().join(OLD))?;
    atomic_file::sync_directory_of(&target)?;
    drop(exclusive);
    // The image is built even if this fails; a sweep will try again.
    let _ = scratch.delete();
    Ok(())
}

/// Gives the image another agent. The caller holds the build lock.
pub fn repack(
    artifacts: &ArtifactsDirectory,
    mut info: ImageInfo,
    agent: &AgentProgram,
    progress: &mut dyn ProgressSink,
) -> Result<()> {
    let profile = info.profile.clone();
    let image = artifacts.image(&profile);
    let mut cache = DigestCache::load(&image);
    locked::check(&image, &info, &mut cache, MODULES)?;
    let modules = input::read_regular(&image.join(MODULES)).context("cannot read the modules")?;
    let initrd = packed(modules, agent)?;
    let size = u64::try_from(initrd.len())?;
    let file = FileInfo { size, digest: digest::of_bytes(&initrd) };

    let exclusive = artifacts.lock_use(&profile, LockWait::UntilCancelled, progress)?;
    // If this command is killed from here on, `recover_repack` finishes or undoes it.
    atomic_file::write_new(&image.join(NEW_INITRD), &initrd)?;
    set_mode(&image.join(NEW_INITRD), INITRD)?;
    info.files.insert(INITRD.to_owned(), file);
    info.agent = agent.info();
    write_info(&image, &info)?;
    rename_durably(&image.join(NEW_INITRD), &image.join(INITRD))?;
    drop(exclusive);
    Ok(())
}

/// Finishes or undoes what a killed `repack` left. The caller holds the build lock.
pub fn recover_repack(
    artifacts: &ArtifactsDirectory,
    profile: &ProfileName,
    progress: &mut dyn ProgressSink,
) -> Result<()> {
    let image = artifacts.image(profile);
    if !is_half_repacked(&image) {
        return Ok(());
    }
    let _exclusive = artifacts.lock_use(profile, LockWait::UntilCancelled, progress)?;
    let Some(info) = info::read(&image)? else { return Ok(()) };
    let (new, current) = (image.join(NEW_INITRD), image.join(INITRD));
    let content = fs::read(&new).context("cannot read the new initrd")?;
    let recorded = info.files.get(INITRD).map(|file| file.digest.as_str());
    if recorded == Some(digest::of_bytes(&content).as_str()) {
        rename_durably(&new, &current)
    } else {
        fs::remove_file(&new).context("cannot remove the unfinished initrd")
    }
}

/// Deletes what killed builds of this profile left. The caller holds the build lock.
fn clear_leftovers(
    artifacts: &ArtifactsDirectory,
    builder: &dyn ImageBuilder,
    profile: &ProfileName,
) -> Result<()> {
    for name in directory::names(&artifacts.root)? {
        if profile_of(&name).as_ref() == Some(profile) {
            let left = artifacts.root.join(name);
            put_back(artifacts, profile, &left)?;
            builder.delete(&left)?;
        }
    }
    Ok(())
}

fn packed(modules: Vec<u8>, agent: &AgentProgram) -> Result<Vec<u8>> {
    let mut initrd = modules;
    initrd.extend(initrd::agent_archive(&agent.content)?);
    Ok(initrd)
}

/// Puts `new` where `target` is or will be, in one step; what was there goes to `old`.
fn put_in_place(new: &Path, target: &Path, old: &Path) -> Result<()> {
    let exchange = renameat_with(CWD, new, CWD, target, RenameFlags::EXCHANGE);
    let renamed = match exchange {
        // The old image is in the build directory, and is deleted with it.
        Ok(()) => Ok(()),
        Err(Errno::NOENT) => fs::rename(new, target),
        // A file system that cannot exchange: for an instant there is no image. `put_back` mends that if this command
        // is killed then.
        Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {
            fs::rename(target, old).and_then(|()| {
                fs::rename(new, target).inspect_err(|_| {
                    let _ = fs::rename(old, target);
                })
            })
        }
        Err(error) => Err(error.into()),
    };
    renamed.with_context(|| format!("cannot put {} in place", target.display()))
}

/// Whether the killed build that left the directory `left` has taken an image away and put none in its place.
pub fn has_taken(artifacts: &ArtifactsDirectory, profile: &ProfileName, left: &Path) -> bool {
    // A new image that is still there tells this from a deletion, and from a build that got further.
    let exists = |path: &Path| fs::symlink_metadata(path).is_ok();
    !exists(&artifacts.image(profile)) && exists(&left.join(OLD)) && exists(&left.join(NEW))
}

/// Puts the old image back if the killed build that left the directory `left` has taken it away. The caller holds the
/// build lock.
pub fn put_back(artifacts: &ArtifactsDirectory, profile: &ProfileName, left: &Path) -> Result<()> {
    if has_taken(artifacts, profile, left) {
        rename_durably(&left.join(OLD), &artifacts.image(profile))?;
    }
    Ok(())
}

/// Sets permissions and syncs, so that an image is complete even after a power cut.
fn set_modes_and_sync(image: &Path) -> Result<()> {
    for (name, ..) in FILES {
        let path = image.join(name);
        set_mode(&path, name)?;
        File::open(&path)
            .and_then(|file| file.sync_all())
            .with_context(|| format!("cannot sync {}", path.display()))?;
    }
    Ok(())
}

fn set_mode(path: &Path, name: &str) -> Result<()> {
    let mode = FILES.iter().find(|file| file.0 == name).expect("a file of an image").2;
    fs::set_permissions(path, Permissions::from_mode(mode))
        .with_context(|| format!("cannot set the mode of {}", path.display()))
}

fn write_info(image: &Path, info: &ImageInfo) -> Result<()> {
    let sealed = seal(serde_json::to_vec_pretty(info)?);
    atomic_file::replace(&image.join(INFO), &sealed).map(drop)
}

fn rename_durably(from: &Path, to: &Path) -> Result<()> {
    fs::rename(from, to).with_context(|| format!("cannot put {} in place", to.display()))?;
    atomic_file::sync_directory_of(to)
}
