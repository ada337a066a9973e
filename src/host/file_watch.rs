//! Waiting for changes to files, and for the end of processes, without polling them periodically.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result};
use rustix::fs::inotify::{self, CreateFlags, WatchFlags};

use crate::sys::poll::{self, PollFlags};

/// An inotify instance.
#[derive(Debug)]
pub struct FileWatch(OwnedFd);

/// Why [`FileWatch::wait`] returned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WakeReason {
    /// A watched file, or one of the other descriptors, may have changed.
    Changed,
    /// The output has no reader any more.
    OutputClosed,
    /// The deadline passed.
    TimedOut,
}

impl FileWatch {
    /// A watch without files.
    ///
    /// # Errors
    /// This user has `/proc/sys/fs/inotify/max_user_instances` of them.
    pub fn new() -> Result<FileWatch> {
        let flags = CreateFlags::CLOEXEC | CreateFlags::NONBLOCK;
        inotify::init(flags).map(FileWatch).context("cannot watch files")
    }

    /// Watches writes to this file. A file that does not exist is ignored.
    pub fn writes(&self, file: &Path) -> Result<()> {
        self.add(file, WatchFlags::MODIFY)
    }

    /// Watches for files that are created in this directory or moved into it.
    pub fn arrivals(&self, directory: &Path) -> Result<()> {
        self.add(directory, WatchFlags::CREATE | WatchFlags::MOVED_TO)
    }

    fn add(&self, path: &Path, flags: WatchFlags) -> Result<()> {
        match inotify::add_watch(&self.0, path, flags | WatchFlags::DONT_FOLLOW) {
            Ok(_) => Ok(()),
            Err(rustix::io::Errno::NOENT) => Ok(()),
            Err(error) => Err(error).with_context(|| format!("cannot watch {}", path.display())),
        }
    }

    /// Waits until a file changes, one of `others` is readable (a pidfd is when its process has ended),
    /// `output` has no reader any more, or `deadline` passes.
    pub fn wait(
        &self,
        others: &[BorrowedFd<'_>],
        output: Option<BorrowedFd<'_>>,
        deadline: Option<Instant>,
    ) -> Result<WakeReason> {
        let changed = |fd| (WakeReason::Changed, fd, PollFlags::POLLIN);
        // Without events, poll reports only errors and hang-ups.
        let closed = |fd| (WakeReason::OutputClosed, fd, PollFlags::empty());
        let mut sources = vec![changed(self.0.as_fd())];
        sources.extend(others.iter().copied().map(changed));
        sources.extend(output.map(closed));
        match poll::ready(&sources, deadline).context("cannot wait")?.last() {
            None => return Ok(WakeReason::TimedOut),
            Some(WakeReason::OutputClosed) => return Ok(WakeReason::OutputClosed),
            _ => {}
        }
        // Which files changed does not matter.
        let mut events = [0; 4096];
        while rustix::io::read(&self.0, &mut events).is_ok_and(|count| count > 0) {}
        Ok(WakeReason::Changed)
    }
}

/// Readable when a watched file has changed.
impl AsFd for FileWatch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, OpenOptions};
    use std::io::Write;
    use std::time::Duration;

    use super::*;

    #[test]
    fn only_changes_to_watched_files_end_the_waiting() {
        let dir = tempfile::tempdir().unwrap();
        let (log, other) = (dir.path().join("log"), dir.path().join("other"));
        fs::write(&log, "").unwrap();
        fs::write(&other, "").unwrap();
        let watch = FileWatch::new().unwrap();
        watch.writes(&log).unwrap();
        watch.writes(&dir.path().join("nothing")).unwrap();
        let (reader, writer) = std::io::pipe().unwrap();
        let wait = |limit: Duration| {
            let deadline = Instant::now() + limit;
            watch.wait(&[], Some(writer.as_fd()), Some(deadline)).unwrap()
        };
        let (soon, late) = (Duration::from_millis(20), Duration::from_secs(20));
        fs::write(&other, "changed").unwrap();
        assert_eq!(wait(soon), WakeReason::TimedOut);
        writeln!(OpenOptions::new().append(true).open(&log).unwrap(), "changed").unwrap();
        assert_eq!(wait(late), WakeReason::Changed);
        assert_eq!(wait(soon), WakeReason::TimedOut);
        watch.arrivals(dir.path()).unwrap();
        fs::rename(&other, dir.path().join("moved")).unwrap();
        assert_eq!(wait(late), WakeReason::Changed);
        drop(reader);
        assert_eq!(wait(late), WakeReason::OutputClosed);
    }
}
