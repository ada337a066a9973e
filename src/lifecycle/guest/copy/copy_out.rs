//! Copying out of a VM, which may send anything.

use std::ffi::OsString;
use std::io::BufReader;
use std::os::fd::{AsFd, OwnedFd};

use anyhow::{Context, Error, Result};
use rustix::fs::FileType;

use super::cancel::{CancelEvent, CancellableFile, CancellablePipe};
use super::outcome::ERROR_LIMIT;
use super::request::{CopyOut, CopyStore, request};
use super::worker::with_worker;
use crate::archive::{
    ArchiveError, ArchiveReader, CopyObserver, CopySource, CopyTally, CopyTarget, EntryKind,
    EntryRelay, QuotaExceeded, StagingDirectory, UnpackQuota, UnpackRules, own_name, receive,
};
use crate::guest::{AgentSession, ExecIo, OutputSink};
use crate::host::process;
use crate::host::signals::PendingSignals;
use crate::model::{Refusal, RefusalKind, VmLimits};
use crate::protocol::{ExecProgram, PackRequest};
use crate::sys::nonblocking::NonblockingWriter;
use crate::sys::pipe;

/// How many bytes are read at once.
const BUFFER: usize = 128 * 1024;

/// Copies out of the VM that `session` is connected to, within `limits`.
///
/// # Errors
/// The path does not exist, cannot be stored here, or what arrives is not valid. Nothing is left here
/// then, unless an archive was being written.
pub fn copy_out(
    session: &mut AgentSession,
    copy: CopyOut,
    limits: &VmLimits,
    signals: &mut PendingSignals,
    observer: &dyn CopyObserver,
) -> Result<CopyTally> {
    let CopyOut { path, follow, to, run_as } = copy;
    let name = own_name(path.as_os_str()).map(OsString::from);
    let announce = observer.is_shown();
    let pack = request(ExecProgram::Pack(PackRequest { path, follow, announce }), run_as, false);
    let quota = quota(limits);
    let min_free = limits.copy_out_free_mib.saturating_mul(1 << 20);
    let umask = process::umask()?;
    let (read, write) = pipe::open()?;
    let cancel = &CancelEvent::new()?;
    let unpack = || {
        let read = CancellablePipe { pipe: read.into(), cancel };
        match to {
            CopyStore::Archive(out) => {
                let quota = on_disk(&out, quota, min_free)?;
                let writer =
                    NonblockingWriter::new(out.into()).context("cannot use standard output")?;
                let mut relay = EntryRelay::new(CancellableFile { writer, cancel }, name);
                let (_, tally) = receive_entries(read, &mut relay, quota, observer)?;
                Ok(ReceivedCopy::Relayed(tally, relay))
            }
            CopyStore::Files(destination) => {
                let directory =
                    destination.directory().try_clone().context("cannot duplicate a descriptor");
                let quota = quota.leaving(min_free, directory?);
                let staged = StagingDirectory::beside(destination.directory().as_fd())
                    .with_context(|| format!("cannot copy to {:?}", destination.path()))?;
                let mut tree = staged.tree(UnpackRules { umask, links: false })?;
                let (root, tally) = receive_entries(read, &mut tree, quota, observer)?;
                tree.finish()?;
                let source = CopySource {
                    name: name.as_deref(),
                    contents: name.is_none(),
                    is_directory: root == EntryKind::Directory,
                };
                Ok(ReceivedCopy::Staged(tally, staged, destination.target(&source)?))
            }
        }
    };
    let exec = |signals: &mut PendingSignals| {
        let io = ExecIo {
            stdin: None,
            stdout: OutputSink::Stream(write),
            stderr: OutputSink::Capture { limit: ERROR_LIMIT },
            signals,
        };
        session.exec(&pack, io)
    };
    // An archive gets its end only when the command has succeeded, so that a truncated one can be recognized.
    let arrived = with_worker(cancel, signals, unpack, exec, |arrived| match arrived {
        ReceivedCopy::Relayed(tally, relay) => relay.finish().map(|()| (tally, None)),
        ReceivedCopy::Staged(tally, staged, target) => Ok((tally, Some((staged, target)))),
    });
    let (tally, staged) = arrived.map_err(explain)?;
    if let Some((staged, target)) = staged {
        staged.place(&target)?;
    }
    Ok(tally)
}

/// What has arrived completely.
enum ReceivedCopy<'a> {
    /// Written to an archive, except for its end.
    Relayed(CopyTally, EntryRelay<CancellableFile<'a>>),
    /// Not moved to its place yet.
    Staged(CopyTally, StagingDirectory, CopyTarget),
}

/// The quota for an archive, which may be a file on a disk.
fn on_disk(out: &OwnedFd, quota: UnpackQuota, min_free: u64) -> Result<UnpackQuota> {
    let stat = rustix::fs::fstat(out).map_err(std::io::Error::from).context("standard output")?;
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => {
            Ok(quota.leaving(min_free, out.try_clone().context("cannot duplicate a descriptor")?))
        }
        _ => Ok(quota),
    }
}

fn receive_entries(
    read: CancellablePipe<'_>,
    sink: &mut dyn crate::archive::EntrySink,
    mut quota: UnpackQuota,
    observer: &dyn CopyObserver,
) -> Result<(EntryKind, CopyTally)> {
    let mut reader = ArchiveReader::new(BufReader::with_capacity(BUFFER, read));
    let (root, tally) = receive(&mut reader, sink, &mut quota, observer)?;
    match root {
        EntryKind::Link { .. } => {
            let message = "it is a symbolic link, and links are not copied out of a VM";
            let refusal = Refusal::new(RefusalKind::Failure, message);
            Err(refusal.hint("'-L' copies its target").into())
        }
        EntryKind::Special => {
            let message = "it is a FIFO, socket or device, and these are not copied";
            Err(Refusal::new(RefusalKind::Failure, message).into())
        }
        _ => Ok((root, tally)),
    }
}

/// How much may be copied out of a VM.
fn quota(limits: &VmLimits) -> UnpackQuota {
    UnpackQuota::new(limits.copy_out_mib.saturating_mul(1 << 20), limits.copy_out_files)
}

/// The error for the user.
fn explain(error: Error) -> Error {
    if let Some(exceeded) = error.downcast_ref::<QuotaExceeded>() {
        let key = match exceeded {
            QuotaExceeded::Bytes { .. } => "copy_out_mib",
            QuotaExceeded::Entries { .. } => "copy_out_files",
            QuotaExceeded::Room { .. } => "copy_out_free_mib",
        };
        let hint = format!("limits.{key} in your profiles.toml sets the limit");
        let message = format!("the VM sends too much: {exceeded}");
        return Refusal::new(RefusalKind::LimitReached, message).hint(hint).into();
    }
    if let Some(broken) = error.downcast_ref::<ArchiveError>() {
        let message = format!("the VM sent an invalid archive: {broken}");
        return Refusal::new(RefusalKind::Agent, message).into();
    }
    error
}
