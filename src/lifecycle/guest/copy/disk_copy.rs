//! A tree that is written to a VM's files disk while the VM starts, and is then mounted there. For many files this takes
//! a small part of the time that a guest needs to create them.

use std::fs::File;
use std::io::{PipeReader, pipe};
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::cancel::CancelEvent;
use super::copy_in::{exec, pack_into};
use super::outcome::check_outcome;
use super::request::{CopyIn, CopyPayload, CopyUser, request};
use crate::archive::{CopyObserver, CopyTally, ErofsImage, PackSource};
use crate::guest::AgentSession;
use crate::host::signals::{PendingSignals, SignalInterrupt};
use crate::host::{sparse, thread};
use crate::lifecycle::manager::VmManager;
use crate::model::VmRecord;
use crate::model::layout::FILES_DISK_SIZE;
use crate::protocol::{ExecProgram, UnpackInput, UnpackRequest, WireText};
use crate::sys::poll::{self, PollFlags};

/// How often the progress is shown.
const TICK: Duration = Duration::from_millis(100);

/// A tree that can be written to a files disk.
#[derive(Debug, Clone)]
pub struct DiskCopyPlan {
    path: PathBuf,
    follow: bool,
    exclude_ignored: bool,
    to: WireText,
    /// In its files.
    bytes: u64,
}

/// A tree that is being written. Dropping this ends the work.
#[derive(Debug)]
pub struct DiskCopy {
    worker: Option<JoinHandle<Result<CopyTally>>>,
    /// At its end when the worker has ended.
    done: PipeReader,
    cancel: Arc<CancelEvent>,
    moved: Arc<MovedBytes>,
    disk: PathBuf,
    to: WireText,
    bytes: u64,
}

/// How much was written.
#[derive(Debug, Default)]
struct MovedBytes(AtomicU64);

impl CopyObserver for MovedBytes {
    fn is_shown(&self) -> bool {
        false
    }

    fn total(&self, _: u64) {}

    fn moved(&self, bytes: u64) {
        self.0.fetch_add(bytes, Ordering::Relaxed);
    }
}

impl DiskCopyPlan {
    /// `None` if a copy cannot be mounted: only directories are, and only for root, to whom all files on the disk belong.
    pub fn of(copy: &CopyIn, bytes: u64) -> Option<DiskCopyPlan> {
        let CopyIn { payload, to, parents, run_as } = copy;
        let CopyUser { user: None, cwd: None } = run_as else { return None };
        match payload {
            CopyPayload::Tree { path, follow, contents: true, exclude_ignored } if *parents => {
                let (follow, exclude_ignored) = (*follow, *exclude_ignored);
                let is_directory = PackSource { path, follow }.is_directory().unwrap_or(false);
                is_directory.then(|| DiskCopyPlan {
                    path: path.clone(),
                    follow,
                    exclude_ignored,
                    to: to.clone(),
                    bytes,
                })
            }
            _ => None,
        }
    }

    /// Begins to write to `disk`. `None` for a VM that has none, or lives on: a mount ends with the guest's kernel.
    ///
    /// # Errors
    /// The disk cannot be created, or no thread be started.
    pub fn begin(self, manager: &VmManager, vm: &VmRecord) -> Result<Option<DiskCopy>> {
        if vm.manifest.image.is_empty() || vm.manifest.keep {
            return Ok(None);
        }
        let disk = manager.paths(vm.id()).files_disk();
        let file = sparse::open_sized(&disk, FILES_DISK_SIZE)?;
        let cancel = Arc::new(CancelEvent::new()?);
        let moved = Arc::new(MovedBytes::default());
        let (done, end) = pipe().context("cannot make a pipe")?;
        let (to, bytes) = (self.to.clone(), self.bytes);
        let (cancelled, observer) = (Arc::clone(&cancel), Arc::clone(&moved));
        let worker = thread::start_owned(move || {
            let _end = end;
            self.write(&file, &cancelled, &*observer)
        })?;
        Ok(Some(DiskCopy { worker: Some(worker), done, cancel, moved, disk, to, bytes }))
    }

    fn write(
        &self,
        file: &File,
        cancel: &CancelEvent,
        observer: &dyn CopyObserver,
    ) -> Result<CopyTally> {
        let source = PackSource { path: &self.path, follow: self.follow };
        let check = || cancel.check();
        let mut image = ErofsImage::new(file, FILES_DISK_SIZE, &check);
        let tally = pack_into(&mut image, source, self.exclude_ignored, cancel, observer)?;
        image.finish().context("cannot write the end of the file system")?;
        Ok(tally)
    }
}

impl DiskCopy {
    /// Waits until everything is written, and lets the VM mount it. `None` if that is not possible, and the copy
    /// must be sent instead. This also finds out why something cannot be read.
    ///
    /// # Errors
    /// A signal; those of the connection.
    pub fn finish(
        mut self,
        session: &mut AgentSession,
        signals: &mut PendingSignals,
        observer: &dyn CopyObserver,
    ) -> Result<Option<CopyTally>> {
        self.wait(signals, observer)?;
        let Some(Ok(written)) = self.worker.take().map(JoinHandle::join) else {
            bail!("a thread that copies files has panicked");
        };
        let mounted = match written {
            Ok(tally) => {
                let unpack = UnpackRequest { path: self.to.clone(), input: UnpackInput::Disk };
                let unpack = request(ExecProgram::Unpack(unpack), CopyUser::default(), false);
                match check_outcome(&exec(session, &unpack, None, signals)?) {
                    Err(error) if error.is::<SignalInterrupt>() => return Err(error),
                    mounted => mounted.ok().map(|()| tally),
                }
            }
            Err(_) => None,
        };
        if mounted.is_none() {
            // The copy on the VM's own disk needs the room.
            let disk = sparse::open_sized(&self.disk, 0)?;
            disk.set_len(FILES_DISK_SIZE).context("cannot empty the files disk")?;
        }
        Ok(mounted)
    }

    fn wait(&self, signals: &mut PendingSignals, observer: &dyn CopyObserver) -> Result<()> {
        observer.total(self.bytes);
        let mut shown = 0;
        loop {
            let moved = self.moved.0.load(Ordering::Relaxed);
            observer.moved(moved - shown);
            shown = moved;
            let sources = [
                (true, self.done.as_fd(), PollFlags::POLLIN),
                (false, signals.as_fd(), PollFlags::POLLIN),
            ];
            let ready = poll::ready(&sources, Some(Instant::now() + TICK)).context("poll")?;
            signals.check()?;
            if ready.contains(&true) {
                return Ok(());
            }
        }
    }
}

impl Drop for DiskCopy {
    fn drop(&mut self) {
        self.cancel.set(None);
        if let Some(worker) = self.worker.take() {
            let _ = worker.join();
        }
    }
}
