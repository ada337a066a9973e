//! Into a VM.

use std::os::fd::OwnedFd;
use std::path::PathBuf;

use anyhow::{Context, Error, Result};

use super::alarm::{CancelEvent, CancellablePipe};
use super::beside::beside;
use super::ended::{SAYS_LIMIT, ended_well};
use super::request::{CopyIn, CopyPayload, request};
use crate::archive::{ArchiveWriter, CopyObserver, CopyTally, PackSource, own_name};
use crate::guest::{AgentSession, CommandOutcome, ExecIo, OutputSink, StdinSource};
use crate::host::signals::PendingSignals;
use crate::protocol::{ExecProgram, ExecRequest, UnpackInput, UnpackRequest, WireText};
use crate::sys::pipe;

/// Copies into the VM at the other end of `session`. How much, is not known of an archive.
///
/// # Errors
/// What is here cannot be read, or not be put there; nothing of it is there then. A signal may come when
/// all of it is.
pub fn copy_in(
    session: &mut AgentSession,
    copy: CopyIn,
    signals: &mut PendingSignals,
    watch: &dyn CopyObserver,
) -> Result<Option<CopyTally>> {
    let CopyIn { parcel, to, parents, who } = copy;
    let unpack = |input| request(ExecProgram::Unpack(UnpackRequest { path: to, input }), who, true);
    match parcel {
        CopyPayload::Archive(archive) => {
            let outcome = exec(session, &unpack(UnpackInput::Archive), archive, signals)?;
            ended_well(&outcome).map(|()| None)
        }
        CopyPayload::Tree { path, follow, contents, exclude_ignored } => {
            let source = PackSource { path: &path, follow };
            source.stat()?;
            let name = own_name(path.as_os_str());
            let contents = contents || name.is_none();
            let input = UnpackInput::Tree { name: name.map(WireText::from), contents, parents };
            tree(session, &unpack(input), source, exclude_ignored, signals, watch).map(Some)
        }
    }
}

fn tree(
    session: &mut AgentSession,
    unpack: &ExecRequest,
    source: PackSource<'_>,
    exclude_ignored: bool,
    signals: &mut PendingSignals,
    watch: &dyn CopyObserver,
) -> Result<CopyTally> {
    let (read, write) = pipe::open()?;
    let alarm = &CancelEvent::new()?;
    beside(
        alarm,
        signals,
        || pack(source, exclude_ignored, CancellablePipe { pipe: write.into(), alarm }, watch),
        |signals| exec(session, unpack, read, signals),
        Ok,
    )
}

fn pack(
    source: PackSource<'_>,
    exclude_ignored: bool,
    out: CancellablePipe<'_>,
    watch: &dyn CopyObserver,
) -> Result<CopyTally> {
    let alarm = out.alarm;
    let paths = || -> Box<dyn Iterator<Item = Result<PathBuf>>> {
        match exclude_ignored {
            true => Box::new(source.unignored()),
            false => Box::new(source.everything()),
        }
    };
    if watch.is_there() {
        watch.total(PackSource::total(paths().take_while(|_| !alarm.rang())));
    }
    let mut writer = ArchiveWriter::new(out);
    let heeding = paths().map(|path| alarm.check().map_err(Error::new).and(path));
    let tally = source.pack(heeding, &mut writer, watch)?;
    writer.finish().context("cannot send the end")?;
    Ok(tally)
}

fn exec(
    session: &mut AgentSession,
    unpack: &ExecRequest,
    input: OwnedFd,
    signals: &mut PendingSignals,
) -> Result<CommandOutcome> {
    let says = || OutputSink::Capture { limit: SAYS_LIMIT };
    let io =
        ExecIo { stdin: Some(StdinSource::Bytes(input)), stdout: says(), stderr: says(), signals };
    session.exec(unpack, io)
}
