//! Locks between commands: flock on a file that exists as long as what it protects.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::atomic_file::remove_if_there;
use super::input;
use super::signals::InterruptWatch;
use crate::model::{Refusal, RefusalKind};
use crate::sys::file_system::if_exists;

/// The shortest and longest pause between two attempts. `flock` has no timeout, and most locks are held for a
/// few milliseconds.
const PAUSES: (Duration, Duration) = (Duration::from_micros(200), Duration::from_millis(10));

/// A held lock. Dropping it, or the end of the process, releases it.
#[derive(Debug)]
pub struct FileLock {
    file: File,
    path: PathBuf,
}

impl FileLock {
    /// Waits for the lock at `path` until `deadline`, or a second if this command was asked to stop.
    ///
    /// `what` names it in the error, such as "the registry".
    ///
    /// # Errors
    /// `Busy` with the holder's pid: the deadline passed.
    /// [`SignalInterrupt`](super::signals::SignalInterrupt): a signal arrived during the wait.
    pub fn acquire(path: &Path, what: &str, deadline: Instant) -> Result<FileLock> {
        let mut pause = PAUSES.0;
        let watch = InterruptWatch::begin();
        let deadline = watch.deadline(deadline);
        loop {
            if let Some(lock) = FileLock::try_acquire(path)? {
                return Ok(lock);
            }
            if Instant::now() >= deadline {
                return Err(busy(path, what).into());
            }
            watch.wait(None, Some(Instant::now() + pause))?;
            pause = (pause * 2).min(PAUSES.1);
        }
    }

    /// The lock at `path`; `None` if another process holds or shares it.
    ///
    /// # Errors
    /// The file cannot be opened or locked, or is a symbolic link.
    pub fn try_acquire(path: &Path) -> Result<Option<FileLock>> {
        // Written in full, because a method call would be std's method of the same name.
        Self::try_lock(path, fs2::FileExt::try_lock_exclusive, Self::sign)
    }

    /// Shares the lock at `path` with other processes; `None` if one holds it exclusively.
    ///
    /// # Errors
    /// As for [`FileLock::try_acquire`].
    pub fn try_share(path: &Path) -> Result<Option<FileLock>> {
        Self::try_lock(path, fs2::FileExt::try_lock_shared, |_| {})
    }

    /// As [`FileLock::try_share`], in a directory that this user cannot write. A user who can write it may still
    /// exclude this command, if this user can read the lock's file. If not, nothing is locked: on a file system
    /// that is read-only for everyone, nothing can change.
    ///
    /// # Errors
    /// The directory cannot be opened.
    pub fn try_share_unwritable(path: &Path) -> Result<Option<FileLock>> {
        let open = |path: &Path| {
            OpenOptions::new().read(true).custom_flags(nix::libc::O_NOFOLLOW).open(path)
        };
        if let Ok(file) = open(path) {
            let contended = fs2::lock_contended_error().raw_os_error();
            match fs2::FileExt::try_lock_shared(&file) {
                Err(error) if error.raw_os_error() == contended => return Ok(None),
                // Some network file systems have no locks for files that are open for reading.
                Ok(()) | Err(_) => return Ok(Some(FileLock { file, path: path.to_owned() })),
            }
        }
        let directory = path.parent().context("a lock is in a directory")?;
        let file =
            open(directory).with_context(|| format!("cannot open {}", directory.display()))?;
        Ok(Some(FileLock { file, path: path.to_owned() }))
    }

    fn try_lock(
        path: &Path,
        lock: impl Fn(&File) -> std::io::Result<()>,
        then: impl Fn(&mut FileLock),
    ) -> Result<Option<FileLock>> {
        loop {
            // The standard library opens files close-on-exec: a VMM must not inherit a lock.
            let file = OpenOptions::new()
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .mode(0o600)
                .custom_flags(nix::libc::O_NOFOLLOW)
                .open(path)
                .with_context(|| format!("cannot open the lock {}", path.display()))?;
            match lock(&file) {
                Ok(()) => {}
                Err(error)
                    if error.raw_os_error() == fs2::lock_contended_error().raw_os_error() =>
                {
                    return Ok(None);
                }
                Err(error) => {
                    return Err(error).with_context(|| format!("cannot lock {}", path.display()));
                }
            }
            // Another process may have removed the file before it was locked here; then the next process
            // would lock a new file of the same name.
            if is_still_at(&file, path)? {
                let mut lock = FileLock { file, path: path.to_owned() };
                then(&mut lock);
                return Ok(Some(lock));
            }
        }
    }

    /// As [`FileLock::try_acquire`], and whether the last holder ended without [`FileLock::leave_clean`]: a
    /// killed process cannot clean up what the lock protects.
    ///
    /// # Errors
    /// As for [`FileLock::try_acquire`].
    pub fn try_claim(path: &Path) -> Result<Option<(FileLock, bool)>> {
        let Some(mut lock) = Self::try_lock(path, fs2::FileExt::try_lock_exclusive, |_| {})? else {
            return Ok(None);
        };
        let is_signed = lock.file.metadata().context("cannot look at a lock")?.len() > 0;
        lock.sign();
        Ok(Some((lock, is_signed)))
    }

    /// Releases the lock and records that what it protects is clean.
    pub fn leave_clean(self) {
        // If this fails, the next holder cleans up needlessly.
        let _ = self.file.set_len(0);
    }

    /// Deletes the lock's file, because what it protected is gone.
    pub fn remove(self) -> Result<()> {
        remove_if_there(&self.path)
    }

    /// Writes this process's pid, for the error message of processes that wait. Errors are ignored.
    fn sign(&mut self) {
        let _ = self.file.set_len(0);
        let _ = self.file.seek(SeekFrom::Start(0));
        let _ = write!(self.file, "{}", std::process::id());
    }
}

fn is_still_at(file: &File, path: &Path) -> Result<bool> {
    let held = file.metadata()?;
    let there = if_exists(std::fs::symlink_metadata(path))
        .with_context(|| format!("cannot look at {}", path.display()))?;
    Ok(there.is_some_and(|there| (there.dev(), there.ino()) == (held.dev(), held.ino())))
}

/// The refusal of a process that waited too long for the lock at `path`.
pub fn busy(path: &Path, what: &str) -> Refusal {
    let mut holder = String::new();
    let by = match input::open(path).and_then(|file| file.take(16).read_to_string(&mut holder)) {
        Ok(_) if holder.bytes().all(|b| b.is_ascii_digit()) && !holder.is_empty() => {
            format!(" by process {holder}")
        }
        _ => String::new(),
    };
    Refusal::new(RefusalKind::Busy, format!("{what} is locked{by} ({})", path.display()))
        .hint("try again when the other command has ended")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_one_holder_and_the_error_names_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let held = FileLock::try_acquire(&path).unwrap().unwrap();
        assert!(FileLock::try_acquire(&path).unwrap().is_none());
        let error = FileLock::acquire(&path, "the registry", Instant::now()).unwrap_err();
        let refusal = Refusal::find(&error).unwrap();
        assert_eq!(refusal.kind, RefusalKind::Busy);
        let me = format!("by process {}", std::process::id());
        assert!(refusal.message.contains(&me), "{}", refusal.message);
        drop(held);
        assert!(FileLock::try_acquire(&path).unwrap().is_some());
    }

    #[test]
    fn a_removed_lock_can_be_acquired_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let held = FileLock::try_acquire(&path).unwrap().unwrap();
        held.remove().unwrap();
        let again = FileLock::try_acquire(&path).unwrap().unwrap();
        assert!(is_still_at(&again.file, &path).unwrap());
    }
}
