//! Copying into a VM.

use std::os::fd::OwnedFd;
use std::path::PathBuf;

use anyhow::{Context, Error, Result};

use super::cancel::{CancelEvent, CancellablePipe};
use super::outcome::{ERROR_LIMIT, check_outcome};
use super::request::{CopyIn, CopyPayload, request};
use super::unignored::unignored;
use super::worker::with_worker;
use crate::archive::{ArchiveWriter, CopyObserver, CopyTally, EntryOutput, PackSource, own_name};
use crate::guest::{AgentSession, CommandOutcome, ExecIo, OutputSink, StdinSource};
use crate::host::signals::PendingSignals;
use crate::protocol::{ExecProgram, ExecRequest, UnpackInput, UnpackRequest, WireText};
use crate::sys::pipe;

/// Copies into the VM that `session` is connected to. Returns what was copied; for an archive, this is
/// not known.
///
/// # Errors
/// The files cannot be read here or stored there. Nothing is left there then, unless a signal arrives
/// after the last file.
pub fn copy_in(
    session: &mut AgentSession,
    copy: CopyIn,
    signals: &mut PendingSignals,
    observer: &dyn CopyObserver,
) -> Result<Option<CopyTally>> {
    let CopyIn { payload, to, parents, run_as } = copy;
    let unpack =
        |input| request(ExecProgram::Unpack(UnpackRequest { path: to, input }), run_as, true);
    match payload {
        CopyPayload::Archive(archive) => {
            let outcome = exec(session, &unpack(UnpackInput::Archive), Some(archive), signals)?;
            check_outcome(&outcome).map(|()| None)
        }
        CopyPayload::Tree { path, follow, contents, exclude_ignored } => {
            let source = PackSource { path: &path, follow };
            source.stat()?;
            let name = own_name(path.as_os_str());
            let contents = contents || name.is_none();
            let input = UnpackInput::Tree { name: name.map(WireText::from), contents, parents };
            tree(session, &unpack(input), source, exclude_ignored, signals, observer).map(Some)
        }
    }
}

fn tree(
    session: &mut AgentSession,
    unpack: &ExecRequest,
    source: PackSource<'_>,
    exclude_ignored: bool,
    signals: &mut PendingSignals,
    observer: &dyn CopyObserver,
) -> Result<CopyTally> {
    let (read, write) = pipe::open()?;
    let cancel = &CancelEvent::new()?;
    with_worker(
        cancel,
        signals,
        || pack(source, exclude_ignored, CancellablePipe { pipe: write.into(), cancel }, observer),
        |signals| exec(session, unpack, Some(read), signals),
        Ok,
    )
}

fn pack(
    source: PackSource<'_>,
    exclude_ignored: bool,
    out: CancellablePipe<'_>,
    observer: &dyn CopyObserver,
) -> Result<CopyTally> {
    let cancel = out.cancel;
    let mut writer = ArchiveWriter::new(out);
    let tally = pack_into(&mut writer, source, exclude_ignored, cancel, observer)?;
    writer.finish().context("cannot send the end of the archive")?;
    Ok(tally)
}

/// Writes a tree to `output`, until `cancel` is set.
pub fn pack_into(
    output: &mut dyn EntryOutput,
    source: PackSource<'_>,
    exclude_ignored: bool,
    cancel: &CancelEvent,
    observer: &dyn CopyObserver,
) -> Result<CopyTally> {
    let check = || cancel.check().map_err(Error::new);
    let listed = if exclude_ignored { Some(unignored(&source, &check)?) } else { None };
    let paths = || -> Box<dyn Iterator<Item = Result<PathBuf>> + '_> {
        match &listed {
            Some(listed) => Box::new(listed.iter().cloned().map(Ok)),
            None => Box::new(source.everything()),
        }
    };
    if observer.is_shown() {
        observer.total(source.total(paths().take_while(|_| !cancel.is_set())));
    }
    let until_cancelled = paths().map(|path| check().and(path));
    source.pack(until_cancelled, output, observer)
}

/// Runs a copy in the VM, with this input.
pub fn exec(
    session: &mut AgentSession,
    unpack: &ExecRequest,
    input: Option<OwnedFd>,
    signals: &mut PendingSignals,
) -> Result<CommandOutcome> {
    let captured = || OutputSink::Capture { limit: ERROR_LIMIT };
    let io = ExecIo {
        stdin: input.map(StdinSource::Bytes),
        stdout: captured(),
        stderr: captured(),
        signals,
    };
    session.exec(unpack, io)
}
