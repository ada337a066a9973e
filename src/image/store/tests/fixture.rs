//! A store whose builder makes small files.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Result, bail};
use tempfile::TempDir;

use crate::host::directory;
use crate::host::tool::ToolInterrupted;
use crate::image::builder::ImageBuilder;
use crate::image::info::{DISK, KERNEL, MODULES, ROOTFS};
use crate::image::store::ImageStore;
use crate::image::{LockedImage, ProgressSink, SilentProgress};
use crate::model::{DebianRecipe, Profile, ProfileName, Refusal};

/// Writes small files instead of running mmdebstrap, and counts how often.
#[derive(Clone, Default)]
pub struct FakeBuilder {
    pub builds: Arc<AtomicUsize>,
    pub fails: Arc<AtomicBool>,
    pub slow: bool,
}

impl ImageBuilder for FakeBuilder {
    fn build(
        &self,
        recipe: &DebianRecipe,
        work: &Path,
        into: &Path,
        progress: &mut dyn ProgressSink,
    ) -> Result<String> {
        let count = self.builds.fetch_add(1, Ordering::SeqCst);
        progress.phase("faking", 1, 4);
        fs::write(work.join("junk"), "")?;
        for name in [KERNEL, MODULES, ROOTFS, DISK] {
            fs::write(into.join(name), format!("{name} {} {count}", recipe.suite))?;
        }
        if self.slow {
            thread::sleep(Duration::from_millis(500));
        }
        if progress.cancelled() {
            return Err(ToolInterrupted.into());
        }
        if self.fails.load(Ordering::SeqCst) {
            bail!("the mirror is on fire");
        }
        Ok("6.1.0".into())
    }

    fn delete(&self, directory: &Path) -> Result<()> {
        crate::host::directory::remove(directory)
    }
}

/// An artifacts directory and an agent beside it.
pub struct StoreFixture {
    dir: TempDir,
    pub fake: FakeBuilder,
}

impl StoreFixture {
    pub fn new() -> StoreFixture {
        StoreFixture::with(FakeBuilder::default())
    }

    pub fn with(fake: FakeBuilder) -> StoreFixture {
        let fixture = StoreFixture { dir: tempfile::tempdir().unwrap(), fake };
        fixture.set_agent("one");
        fixture
    }

    /// Writes a program without program headers that ends with `content`.
    pub fn set_agent(&self, content: &str) {
        let mut elf = vec![0; 64];
        elf[..6].copy_from_slice(b"\x7fELF\x02\x01");
        elf.extend(content.as_bytes());
        fs::write(self.agent(), elf).unwrap();
    }

    pub fn agent(&self) -> PathBuf {
        self.dir.path().join("agent")
    }

    pub fn root(&self) -> PathBuf {
        self.dir.path().join("artifacts")
    }

    pub fn store(&self) -> ImageStore {
        ImageStore::with_builder(&self.root(), Box::new(self.fake.clone())).unwrap()
    }

    pub fn ensure(&self) -> Result<LockedImage> {
        self.store().ensure(&profile("bookworm"), &self.agent(), &mut SilentProgress)
    }

    pub fn build(&self, suite: &str) -> Result<LockedImage> {
        self.store().build(&profile(suite), &self.agent(), &mut SilentProgress)
    }

    pub fn builds(&self) -> usize {
        self.fake.builds.load(Ordering::SeqCst)
    }

    /// What is in the artifacts directory, without the locks.
    pub fn names(&self) -> Vec<String> {
        let names = directory::names(&self.root()).unwrap();
        let is_lock =
            |name: &String| [".build", ".turn", ".use"].iter().any(|end| name.ends_with(end));
        names.into_iter().filter(|name| !is_lock(name)).collect()
    }
}

/// The name of the only image.
pub fn image_name() -> ProfileName {
    "p".parse().unwrap()
}

pub fn profile(suite: &str) -> Profile {
    Profile::sample(image_name(), suite)
}

pub fn refusal(error: &anyhow::Error) -> &Refusal {
    Refusal::find(error).unwrap_or_else(|| panic!("not a refusal: {error:#}"))
}
