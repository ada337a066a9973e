//! Into a VM.

use std::os::fd::OwnedFd;
use std::path::PathBuf;

use anyhow::{Context, Error, Result};

use super::alarm::{Alarm, Heeding};
use super::beside::beside;
use super::ended::{SAYS_LIMIT, ended_well};
use super::request::{CopyIn, Parcel, request};
use crate::archive::{Source, Tally, Watch, Writer, own_name};
use crate::guest::{ExecIo, Outcome, Session, Sink, Stdin};
use crate::host::pipe;
use crate::host::signals::Signals;
use crate::protocol::{Exec, Input, Program, Text, Unpack};

/// Copies into the VM at the other end of `session`. How much, is not known of an archive.
///
/// # Errors
/// What is here cannot be read, or not be put there; nothing of it is there then. A signal may come when
/// all of it is.
pub fn copy_in(
    session: &mut Session,
    copy: CopyIn,
    signals: &mut Signals,
    watch: &dyn Watch,
) -> Result<Option<Tally>> {
    let CopyIn { parcel, to, parents, who } = copy;
    let unpack = |input| request(Program::Unpack(Unpack { path: to, input }), who, true);
    match parcel {
        Parcel::Archive(archive) => {
            let outcome = exec(session, &unpack(Input::Archive), archive, signals)?;
            ended_well(&outcome).map(|()| None)
        }
        Parcel::Tree { path, follow, contents, exclude_ignored } => {
            let source = Source { path: &path, follow };
            source.stat()?;
            let name = own_name(path.as_os_str());
            let contents = contents || name.is_none();
            let input = Input::Tree { name: name.map(Text::from), contents, parents };
            tree(session, &unpack(input), source, exclude_ignored, signals, watch).map(Some)
        }
    }
}

fn tree(
    session: &mut Session,
    unpack: &Exec,
    source: Source<'_>,
    exclude_ignored: bool,
    signals: &mut Signals,
    watch: &dyn Watch,
) -> Result<Tally> {
    let (read, write) = pipe::open()?;
    let alarm = &Alarm::new()?;
    beside(
        alarm,
        signals,
        || pack(source, exclude_ignored, Heeding { pipe: write.into(), alarm }, watch),
        |signals| exec(session, unpack, read, signals),
        Ok,
    )
}

fn pack(
    source: Source<'_>,
    exclude_ignored: bool,
    out: Heeding<'_>,
    watch: &dyn Watch,
) -> Result<Tally> {
    let alarm = out.alarm;
    let paths = || -> Box<dyn Iterator<Item = Result<PathBuf>>> {
        match exclude_ignored {
            true => Box::new(source.unignored()),
            false => Box::new(source.everything()),
        }
    };
    if watch.is_there() {
        watch.total(Source::total(paths().take_while(|_| !alarm.rang())));
    }
    let mut writer = Writer::new(out);
    let heeding = paths().map(|path| alarm.check().map_err(Error::new).and(path));
    let tally = source.pack(heeding, &mut writer, watch)?;
    writer.finish().context("cannot send the end")?;
    Ok(tally)
}

fn exec(
    session: &mut Session,
    unpack: &Exec,
    input: OwnedFd,
    signals: &mut Signals,
) -> Result<Outcome> {
    let says = || Sink::Capture { limit: SAYS_LIMIT };
    let io = ExecIo { stdin: Some(Stdin::Bytes(input)), stdout: says(), stderr: says(), signals };
    session.exec(unpack, io)
}
