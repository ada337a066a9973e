//! Out of a VM, which may send anything.

use std::ffi::OsString;
use std::io::{BufReader, ErrorKind};
use std::os::fd::{AsFd, OwnedFd};

use anyhow::{Context, Error, Result};

use super::{CopyOut, SAYS_LIMIT, Store, ended_well, quota_of, request};
use crate::archive::{
    Broken, Cargo, Exceeded, Kind, Quota, Reader, Relay, Rules, Staged, Tally, Watch, own_name,
    receive,
};
use crate::guest::{ExecIo, Session, Sink};
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
    let (outcome, arrived) = std::thread::scope(|scope| {
        let receiver = scope.spawn(|| match to {
            Store::Archive(out) => relay(read, out, name, quota, watch),
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
                let target = destination.target(&cargo)?;
                Ok(Arrived { tally, put: Box::new(move || staged.place(&target)) })
            }
        });
        let io = ExecIo {
            stdin: None,
            stdout: Sink::Stream(write),
            stderr: Sink::Capture { limit: SAYS_LIMIT },
            signals,
        };
        let outcome = session.exec(&pack, io);
        (outcome, receiver.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    });
    // What is lost says it best: an agent that went away, a second Ctrl-C.
    let outcome = outcome?;
    let arrived = match (ended_well(&outcome), arrived) {
        (Ok(()), Ok(arrived)) => arrived,
        // The stream broke off because its sender did, and that says why.
        (Err(theirs), Err(error)) if broke_off(&error) => return Err(theirs),
        (_, Err(error)) => return Err(explained(error)),
        (Err(theirs), Ok(_)) => return Err(theirs),
    };
    (arrived.put)()?;
    Ok(arrived.tally)
}

/// All of it is here, and not in its place yet.
struct Arrived {
    tally: Tally,
    put: Box<dyn FnOnce() -> Result<()> + Send>,
}

fn relay(
    read: OwnedFd,
    out: OwnedFd,
    top: Option<OsString>,
    quota: Quota,
    watch: &dyn Watch,
) -> Result<Arrived> {
    let mut relay = Relay::new(std::fs::File::from(out), top);
    let (_, tally) = take(read, &mut relay, quota, watch)?;
    Ok(Arrived { tally, put: Box::new(move || relay.finish()) })
}

fn take(
    read: OwnedFd,
    sink: &mut dyn crate::archive::Sink,
    mut quota: Quota,
    watch: &dyn Watch,
) -> Result<(Kind, Tally)> {
    let mut reader = Reader::new(BufReader::with_capacity(BUFFER, std::fs::File::from(read)));
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

fn broke_off(error: &Error) -> bool {
    error.chain().any(|cause| {
        cause.downcast_ref::<Broken>() == Some(&Broken::Truncated)
            || cause
                .downcast_ref::<std::io::Error>()
                .is_some_and(|error| error.kind() == ErrorKind::UnexpectedEof)
    })
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
