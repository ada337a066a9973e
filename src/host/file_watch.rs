//! Waiting for something to happen to files and processes, without looking again and again.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result};
use rustix::fs::inotify::{self, CreateFlags, WatchFlags};

use crate::sys::poll::{self, PollFd, PollFlags};

/// Hears of changes to the files it was told of.
#[derive(Debug)]
pub struct FileWatch(OwnedFd);

/// What ended a waiting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WakeReason {
    /// A file or one of the others changed, or may have.
    Changed,
    /// Nobody reads the output any more.
    Unheard,
    /// It is late.
    TimedOut,
}

impl FileWatch {
    /// One that hears of nothing yet.
    ///
    /// Errors: `/proc/sys/fs/inotify/max_user_instances` of them are in use.
    pub fn new() -> Result<FileWatch> {
        let flags = CreateFlags::CLOEXEC | CreateFlags::NONBLOCK;
        inotify::init(flags).map(FileWatch).context("cannot watch files")
    }

    /// Hears of every write to this file.
    pub fn writes(&self, file: &Path) -> Result<()> {
        self.add(file, WatchFlags::MODIFY)
    }

    /// Hears of files that appear in this directory, or are put in the place of others.
    pub fn arrivals(&self, directory: &Path) -> Result<()> {
        self.add(directory, WatchFlags::CREATE | WatchFlags::MOVED_TO)
    }

    fn add(&self, path: &Path, flags: WatchFlags) -> Result<()> {
        match inotify::add_watch(&self.0, path, flags | WatchFlags::DONT_FOLLOW) {
            Ok(_) => Ok(()),
            // What has been deleted meanwhile does not change any more.
            Err(rustix::io::Errno::NOENT) => Ok(()),
            Err(error) => Err(error).with_context(|| format!("cannot watch {}", path.display())),
        }
    }

    /// Waits for a change, for something to read from `others`, as is the end of a process, for the reader of
    /// `output` to go away, or until `deadline`.
    pub fn wait(
        &self,
        others: &[BorrowedFd<'_>],
        output: Option<BorrowedFd<'_>>,
        deadline: Option<Instant>,
    ) -> Result<WakeReason> {
        let mut fds = vec![PollFd::new(self.0.as_fd(), PollFlags::POLLIN)];
        fds.extend(others.iter().map(|other| PollFd::new(*other, PollFlags::POLLIN)));
        // Asked for nothing, it reports an error or a hang-up.
        fds.extend(output.map(|output| PollFd::new(output, PollFlags::empty())));
        if !poll::wait(&mut fds, deadline).context("cannot wait")? {
            return Ok(WakeReason::TimedOut);
        }
        if output.is_some() && fds.last().and_then(PollFd::any) == Some(true) {
            return Ok(WakeReason::Unheard);
        }
        // What it says is that there is something to look at, and nothing else is of interest.
        let mut events = [0; 4096];
        while rustix::io::read(&self.0, &mut events).is_ok_and(|count| count > 0) {}
        Ok(WakeReason::Changed)
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, OpenOptions};
    use std::io::Write;
    use std::time::Duration;

    use super::*;

    #[test]
    fn it_hears_of_what_it_was_told_of_and_of_nothing_else() {
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
        assert_eq!(wait(late), WakeReason::Unheard);
    }
}
