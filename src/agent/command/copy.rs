//! Copying files. The agent executes itself as a command, so that user, streams, timeout and exit work as
//! for any command, and the image needs no tar.

use std::ffi::{OsStr, OsString};
use std::io::{self, BufReader, ErrorKind, Read, Write};
use std::os::fd::AsFd;
use std::path::Path;
use std::process::ExitCode;
use std::sync::atomic::{AtomicI32, Ordering};

use anyhow::{Context, Result, bail};
use nix::libc;
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, raise, sigaction};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::failure::failure;
use super::mounted_copy;
use crate::archive::{
    self, ArchiveReader, ArchiveWriter, CopyDestination, CopySource, CopyTarget, EntryKind,
    PackSource, StagingDirectory, UnpackQuota, UnpackRules, extract, receive,
};
use crate::protocol::{
    AgentFailure, COPY_NOT_FOUND, FailureKind, PackRequest, UnpackInput, UnpackRequest, WireText,
};
use crate::sys::signals::STOPPING;

/// The directions, as the first argument. The second is the request in JSON.
pub const PACK: &str = "--pack";
pub const UNPACK: &str = "--unpack";

/// This program, even if its file was deleted.
const OWN_PROGRAM: &str = "/proc/self/exe";

/// Bytes to read at once, so that a small file needs no system call of its own, and this process and the one that serves
/// the host rarely wait for each other.
const BUFFER: usize = 512 * 1024;

/// The signal that asked this process to stop, or 0.
static ASKED_TO_STOP: AtomicI32 = AtomicI32::new(0);

/// The command that copies: paths to try to execute, and the arguments.
///
/// # Errors
/// The request cannot be encoded.
pub fn command(
    direction: &str,
    request: &impl Serialize,
) -> Result<(Vec<OsString>, Vec<OsString>), AgentFailure> {
    let json = serde_json::to_string(request)
        .map_err(|error| failure(FailureKind::Internal, error.to_string()))?;
    Ok((vec![OWN_PROGRAM.into()], vec!["mayfly-agent".into(), direction.into(), json.into()]))
}

/// Whether an argument is [`PACK`] or [`UNPACK`].
pub fn is_direction(argument: &OsStr) -> bool {
    argument == PACK || argument == UNPACK
}

/// Copies in one direction. An error is one line on standard error.
pub fn run(direction: &OsStr, request: Option<OsString>) -> ExitCode {
    let request = request.unwrap_or_default();
    let done = if direction == PACK {
        parse(&request).and_then(|request| pack(&request))
    } else {
        parse(&request).and_then(|request| unpack(&request))
    };
    match (done, ASKED_TO_STOP.load(Ordering::Relaxed)) {
        (Ok(()), _) => ExitCode::SUCCESS,
        (Err(error), 0) => {
            let _ = writeln!(io::stderr(), "{error:#}");
            let is_missing = error.downcast_ref() == Some(&rustix::io::Errno::NOENT)
                || error.downcast_ref().map(io::Error::kind) == Some(ErrorKind::NotFound);
            if is_missing { ExitCode::from(COPY_NOT_FOUND) } else { ExitCode::FAILURE }
        }
        (Err(_), number) => end_by_signal(number),
    }
}

fn parse<T: DeserializeOwned>(request: &OsStr) -> Result<T> {
    serde_json::from_slice(request.as_encoded_bytes()).context("cannot parse the request")
}

fn pack(request: &PackRequest) -> Result<()> {
    // Packing leaves nothing to clean up, so SIGPIPE may end it.
    on_signals(SigHandler::SigDfl, &[Signal::SIGPIPE])?;
    let source = PackSource { path: path(&request.path), follow: request.follow };
    source.stat()?;
    let mut writer = ArchiveWriter::new(stream(io::stdout())?);
    if request.announce {
        writer.announce(source.total(source.everything()))?;
    }
    source.pack(source.everything(), &mut writer, &())?;
    writer.finish().context("cannot send the end")?;
    Ok(())
}

fn unpack(request: &UnpackRequest) -> Result<()> {
    on_signals(SigHandler::Handler(ask_to_stop), &STOPPING)?;
    let path = path(&request.path);
    if let UnpackInput::Disk = request.input {
        return mounted_copy::mount(path);
    }
    if let UnpackInput::Tree { parents: true, .. } = request.input {
        archive::make_parents(path)?;
    }
    let destination = CopyDestination::look(path)?;
    let staged = StagingDirectory::beside(destination.directory().as_fd())
        .with_context(|| format!("cannot copy to {path:?}"))?;
    // The copies keep their modes, and belong to the user of this process.
    let mut tree = staged.tree(UnpackRules { umask: 0, links: true })?;
    let input = BufReader::with_capacity(BUFFER, Interruptible(stream(io::stdin())?));
    let target = match &request.input {
        UnpackInput::Archive => {
            let target = directory_only(&destination, path)?;
            extract(input, &mut tree)?;
            target
        }
        UnpackInput::Disk => unreachable!("it was handled above"),
        UnpackInput::Tree { name, contents, .. } => {
            let mut reader = ArchiveReader::new(input);
            let (root, _) = receive(&mut reader, &mut tree, &mut UnpackQuota::unlimited(), &())
                .context("what the host sent")?;
            destination.target(&CopySource {
                name: name.as_ref().map(|name| name.as_os_str()),
                contents: *contents,
                is_directory: root == EntryKind::Directory,
            })?
        }
    };
    tree.finish()?;
    if ASKED_TO_STOP.load(Ordering::Relaxed) != 0 {
        bail!("interrupted");
    }
    staged.place(&target)
}

fn directory_only(destination: &CopyDestination, path: &Path) -> Result<CopyTarget> {
    let source = CopySource { name: None, contents: true, is_directory: true };
    match destination.target(&source)? {
        into @ CopyTarget::Into { .. } => Ok(into),
        CopyTarget::As { .. } => Err(archive::no_directory(path).into()),
    }
}

fn path(text: &WireText) -> &Path {
    match text.as_bytes() {
        b"" => Path::new("."),
        _ => Path::new(text.as_os_str()),
    }
}

/// A standard stream without a buffer.
fn stream(fd: impl AsFd) -> Result<std::fs::File> {
    Ok(fd.as_fd().try_clone_to_owned().context("cannot use a standard stream")?.into())
}

/// Input whose reads fail once a signal asked this process to stop.
struct Interruptible<R>(R);

impl<R: Read> Read for Interruptible<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            if ASKED_TO_STOP.load(Ordering::Relaxed) != 0 {
                return Err(io::Error::other("interrupted"));
            }
            match self.0.read(buffer) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                other => return other,
            }
        }
    }
}

extern "C" fn ask_to_stop(number: libc::c_int) {
    ASKED_TO_STOP.store(number, Ordering::Relaxed);
}

fn on_signals(handler: SigHandler, signals: &[Signal]) -> Result<()> {
    // Without SA_RESTART, so that a signal interrupts a read.
    let action = SigAction::new(handler, SaFlags::empty(), SigSet::empty());
    for &signal in signals {
        // SAFETY: the handler only stores to an atomic.
        unsafe { sigaction(signal, &action) }.context("cannot handle signals")?;
    }
    Ok(())
}

/// Ends this process by the signal's default action.
fn end_by_signal(number: i32) -> ExitCode {
    if let Ok(signal) = Signal::try_from(number)
        && on_signals(SigHandler::SigDfl, &[signal]).is_ok()
    {
        let _ = raise(signal);
    }
    ExitCode::FAILURE
}
