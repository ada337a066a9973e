//! Where images are, and the locks of each:
//!
//! - `.<profile>.build` is exclusive to the command that builds or changes the image, for as long as that
//!   takes. A second builder waits for it and then finds the image made.
//! - `.<profile>.use` is shared by every [`crate::image::LockedImage`], and exclusive only while a new
//!   image takes the place of the old one. So a rebuild never keeps a VM from starting, and no command's
//!   image changes while it works.
//! - `.<profile>.turn` is taken for a moment before `.use` is shared. A builder that has waited too long
//!   for `.use` holds it, so that no more commands share `.use`.
//!
//! They are always taken in this order, and the files are never removed.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Result;

use crate::host::lock::{FileLock, busy};
use crate::host::signals::InterruptWatch;
use crate::host::tool::ToolInterrupted;
use crate::image::progress::{ProgressSink, SilentProgress};
use crate::model::{ProfileName, Refusal, RefusalKind};

/// How long a command waits for an image that is being replaced, and one that deletes an image for those
/// that use it: a VM needs the lock only until its VMM has started.
pub const USE_LIMIT: Duration = Duration::from_secs(30);

/// How long a builder waits for `.use` before it keeps others from sharing it.
const TURN_DELAY: Duration = Duration::from_secs(1);

/// Between two attempts to take a lock. Builds take seconds, so ten milliseconds do not matter.
const PAUSE: Duration = Duration::from_millis(10);

/// Shorter waits are not reported.
const SILENT_WAIT: Duration = Duration::from_millis(200);

/// How long to wait for a lock.
#[derive(Debug, Clone, Copy)]
pub enum LockWait {
    /// `Busy` after this moment.
    Until(Instant),
    /// Until the caller gives up: for work that takes as long as it takes.
    UntilCancelled,
}

impl LockWait {
    pub fn at_most(time: Duration) -> LockWait {
        LockWait::Until(Instant::now() + time)
    }
}

/// The artifacts directory.
pub struct ArtifactsDirectory {
    pub root: PathBuf,
    /// Whether this user can change it. It may be root's, or on a read-only file system.
    pub is_writable: bool,
}

impl ArtifactsDirectory {
    /// The directory of a profile's image.
    pub fn image(&self, profile: &ProfileName) -> PathBuf {
        self.root.join(profile.as_str())
    }

    /// The lock to use the image.
    pub fn share(
        &self,
        profile: &ProfileName,
        progress: &mut dyn ProgressSink,
    ) -> Result<FileLock> {
        let what = format!("the image of {profile}");
        let wait = LockWait::at_most(USE_LIMIT);
        let share =
            if self.is_writable { FileLock::try_share } else { FileLock::try_share_unwritable };
        let turn = self.lock_file(profile, "turn");
        let _turn = wait_for(&turn, share, &what, wait, progress)?;
        wait_for(&self.lock_file(profile, "use"), share, &what, wait, progress)
    }

    /// The lock to replace or delete the image.
    pub fn lock_use(
        &self,
        profile: &ProfileName,
        wait: LockWait,
        progress: &mut dyn ProgressSink,
    ) -> Result<FileLock> {
        let what = format!("the image of {profile}");
        let path = self.lock_file(profile, "use");
        let first_wait = LockWait::at_most(TURN_DELAY);
        match wait_for(&path, FileLock::try_acquire, &what, first_wait, &mut SilentProgress) {
            Err(error) if Refusal::find(&error).is_some() => {}
            result => return result,
        }
        let turn = self.lock_file(profile, "turn");
        let _turn = wait_for(&turn, FileLock::try_acquire, &what, wait, progress)?;
        wait_for(&path, FileLock::try_acquire, &what, wait, progress)
    }

    /// The lock to build or change the image.
    ///
    /// # Errors
    /// `Host` if this user cannot change the directory.
    pub fn lock_build(
        &self,
        profile: &ProfileName,
        wait: LockWait,
        progress: &mut dyn ProgressSink,
    ) -> Result<FileLock> {
        if !self.is_writable {
            let message = format!(
                "the image of {profile} cannot be built, changed or deleted: you cannot write to {}",
                self.root.display()
            );
            return Err(Refusal::new(RefusalKind::Host, message)
                .hint("name a directory of your own with MAYFLY_ARTIFACTS_DIR, or ask its owner")
                .into());
        }
        let path = self.lock_file(profile, "build");
        let what = format!("the building of the image of {profile}");
        wait_for(&path, FileLock::try_acquire, &what, wait, progress)
    }

    /// The lock to build or change the image, if it is free.
    pub fn try_lock_build(&self, profile: &ProfileName) -> Result<Option<FileLock>> {
        FileLock::try_acquire(&self.lock_file(profile, "build"))
    }

    fn lock_file(&self, profile: &ProfileName, purpose: &str) -> PathBuf {
        self.root.join(format!(".{profile}.{purpose}"))
    }
}

/// Waits until `take` gets the lock at `path`. `what` names it, as in "the image of debian-base".
fn wait_for(
    path: &Path,
    take: impl Fn(&Path) -> Result<Option<FileLock>>,
    what: &str,
    wait: LockWait,
    progress: &mut dyn ProgressSink,
) -> Result<FileLock> {
    let started = Instant::now();
    let mut mentioned = false;
    let watch = InterruptWatch::begin();
    loop {
        if let Some(lock) = take(path)? {
            return Ok(lock);
        }
        if progress.cancelled() {
            return Err(ToolInterrupted.into());
        }
        if let LockWait::Until(deadline) = wait
            && Instant::now() >= deadline
        {
            return Err(busy(path, what).into());
        }
        if !mentioned && started.elapsed() >= SILENT_WAIT {
            progress.note(&format!("waiting: {}", busy(path, what)));
            mentioned = true;
        }
        watch.wait(None, Some(Instant::now() + PAUSE))?;
    }
}
