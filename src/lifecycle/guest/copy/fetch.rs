//! Out of a VM, which may send anything.

use std::ffi::OsString;
use std::io::BufReader;
use std::os::fd::{AsFd, OwnedFd};

use anyhow::{Context, Error, Result};
use rustix::fs::FileType;

use super::alarm::{Alarm, Heeding, Patient};
use super::beside::beside;
use super::ended::SAYS_LIMIT;
use super::request::{CopyOut, Store, request};
use crate::archive::{
    Broken, Cargo, Exceeded, Kind, Quota, Reader, Relay, Rules, Staged, Tally, Target, Watch,
    own_name, receive,
};
use crate::guest::{ExecIo, Session, Sink};
use crate::host::outlet::Outlet;
use crate::host::signals::Signals;
use crate::host::{pipe, process};
use crate::model::{self, Limits, Refusal};
use crate::protocol::{Pack, Program};

/// What is read at once.
const BUFFER: usize = 128 * 1024;

/// Copies out of the VM at the other end of `session`, no more than `limits` allow.
///
/// # Errors
/// It is not there, cannot be put here, or is not what it should be; nothing of it is here then, unless
/// it went to an archive.
pub fn copy_out(
    session: &mut Session,
    copy: CopyOut,
    limits: &Limits,
    signals: &mut Signals,
    watch: &dyn Watch,
) -> Result<Tally> {
    let CopyOut { path, follow, to, who } = copy;
    let name = own_name(path.as_os_str()).map(OsString::from);
    let announce = watch.is_there();
    let pack = request(Program::Pack(Pack { path, follow, announce }), who, false);
    let quota = quota_of(limits);
    let floor = limits.copy_out_free_mib.saturating_mul(1 << 20);
    let umask = process::umask()?;
    let (read, write) = pipe::open()?;
    let alarm = &Alarm::new()?;
    let receive = || {
        let read = Heeding { pipe: read.into(), alarm };
        match to {
            Store::Archive(out) => {
                let quota = on_disk(&out, quota, floor)?;
                let outlet = Outlet::new(out.into()).context("cannot use standard output")?;
                let mut relay = Relay::new(Patient { outlet, alarm }, name);
                let (_, tally) = take(read, &mut relay, quota, watch)?;
                Ok(Arrived::Passed(tally, relay))
            }
            Store::Place(destination) => {
                let floored = destination.directory().try_clone().context("cannot hold it");
                let quota = quota.leaving(floor, floored?);
                let staged = Staged::beside(destination.directory().as_fd())
                    .with_context(|| format!("cannot copy to {:?}", destination.path()))?;
                let mut tree = staged.tree(Rules { umask, links: false })?;
                let (root, tally) = take(read, &mut tree, quota, watch)?;
                tree.finish()?;
                let cargo = Cargo {
                    name: name.as_deref(),
                    contents: name.is_none(),
                    is_directory: root == Kind::Directory,
                };
                Ok(Arrived::Staged(tally, staged, destination.target(&cargo)?))
            }
        }
    };
    let exec = |signals: &mut Signals| {
        let io = ExecIo {
            stdin: None,
            stdout: Sink::Stream(write),
            stderr: Sink::Capture { limit: SAYS_LIMIT },
            signals,
        };
        session.exec(&pack, io)
    };
    // An archive without its end is one that broke off: it gets that when the command has ended well.
    let arrived = beside(alarm, signals, receive, exec, |arrived| match arrived {
        Arrived::Passed(tally, relay) => relay.finish().map(|()| (tally, None)),
        Arrived::Staged(tally, staged, target) => Ok((tally, Some((staged, target)))),
    });
    let (tally, staged) = arrived.map_err(explained)?;
    if let Some((staged, target)) = staged {
        staged.place(&target)?;
    }
    Ok(tally)
}

/// All of it is here,
enum Arrived<'a> {
    /// and was written but for the end,
    Passed(Tally, Relay<Patient<'a>>),
    /// or is not in its place yet.
    Staged(Tally, Staged, Target),
}

/// The quota for an archive, which may be on a disk itself.
fn on_disk(out: &OwnedFd, quota: Quota, floor: u64) -> Result<Quota> {
    let stat = rustix::fs::fstat(out).map_err(std::io::Error::from).context("standard output")?;
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => {
            Ok(quota.leaving(floor, out.try_clone().context("cannot hold it")?))
        }
        _ => Ok(quota),
    }
}

fn take(
    read: Heeding<'_>,
    sink: &mut dyn crate::archive::Sink,
    mut quota: Quota,
    watch: &dyn Watch,
) -> Result<(Kind, Tally)> {
    let mut reader = Reader::new(BufReader::with_capacity(BUFFER, read));
    let (root, tally) = receive(&mut reader, sink, &mut quota, watch)?;
    match root {
        Kind::Link { .. } => Err(Refusal::new(
            model::Kind::Failure,
            "it is a symbolic link, which is not copied out of a VM",
        )
        .hint("with '-L', what it leads to is copied")
        .into()),
        Kind::Special => Err(Refusal::new(
            model::Kind::Failure,
            "it is a FIFO, socket or device, which is not copied",
        )
        .into()),
        _ => Ok((root, tally)),
    }
}

/// How much may come out of a VM.
fn quota_of(limits: &Limits) -> Quota {
    Quota::new(limits.copy_out_mib.saturating_mul(1 << 20), limits.copy_out_files)
}

/// What is wrong with what came, for people.
fn explained(error: Error) -> Error {
    if let Some(exceeded) = error.downcast_ref::<Exceeded>() {
        let key = match exceeded {
            Exceeded::Bytes { .. } => "copy_out_mib",
            Exceeded::Entries { .. } => "copy_out_files",
            Exceeded::Room { .. } => "copy_out_free_mib",
        };
        let hint = format!("limits.{key} in a profiles.toml of yours says how much");
        let message = format!("what the VM sends is too much: {exceeded}");
        return Refusal::new(model::Kind::LimitReached, message).hint(hint).into();
    }
    if let Some(broken) = error.downcast_ref::<Broken>() {
        let message = format!("what the VM sends is not taken: {broken}");
        return Refusal::new(model::Kind::Agent, message).into();
    }
    error
}
