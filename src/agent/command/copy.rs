//! Copying files: the agent once more, as a command among others, with that command's user, streams,
//! time and end. So it needs no program in the image, not even tar.

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
use crate::archive::{
    self, ArchiveReader, ArchiveWriter, CopyDestination, CopySource, CopyTarget, EntryKind,
    PackSource, StagingDirectory, UnpackQuota, UnpackRules, receive, receive_foreign,
};
use crate::protocol::{AgentFailure, FailureKind, PackRequest, UnpackInput, UnpackRequest};
use crate::sys::signals::STOPPING;

/// The arguments that make a command of this program; JSON follows.
pub const PACK: &str = "--pack";
pub const UNPACK: &str = "--unpack";

/// This program, wherever it came from and whatever became of the file.
const OURSELVES: &str = "/proc/self/exe";

/// What is read at once, so that a small file costs no system call of its own.
const BUFFER: usize = 128 * 1024;

/// The signal that asked to stop, if one has.
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
    Ok((vec![OURSELVES.into()], vec!["mayfly-agent".into(), direction.into(), json.into()]))
}

/// Whether this argument asks for a copy.
pub fn is_direction(argument: &OsStr) -> bool {
    argument == PACK || argument == UNPACK
}

/// Does it. What went wrong is said in one line on standard error.
pub fn run(argument: &OsStr, request: Option<OsString>) -> ExitCode {
    let request = request.unwrap_or_default();
    let done = match argument == PACK {
        true => parse(&request).and_then(|request| pack(&request)),
        false => parse(&request).and_then(|request| unpack(&request)),
    };
    match (done, ASKED_TO_STOP.load(Ordering::Relaxed)) {
        (Ok(()), _) => ExitCode::SUCCESS,
        (Err(error), 0) => {
            let _ = writeln!(io::stderr(), "{error:#}");
            ExitCode::FAILURE
        }
        (Err(_), number) => die_of(number),
    }
}

fn parse<T: DeserializeOwned>(request: &OsStr) -> Result<T> {
    serde_json::from_slice(request.as_encoded_bytes()).context("the request is not understood")
}

fn pack(request: &PackRequest) -> Result<()> {
    // Nothing is left behind by a sender that ends when nobody listens.
    on_signals(SigHandler::SigDfl, &[Signal::SIGPIPE])?;
    let source = PackSource { path: path(&request.path), follow: request.follow };
    source.stat()?;
    let mut writer = ArchiveWriter::new(stream(io::stdout())?);
    if request.announce {
        writer.announce(PackSource::total(source.everything()))?;
    }
    source.pack(source.everything(), &mut writer, &())?;
    writer.finish().context("cannot send the end")?;
    Ok(())
}

fn unpack(request: &UnpackRequest) -> Result<()> {
    on_signals(SigHandler::Handler(ask_to_stop), &STOPPING)?;
    let path = path(&request.path);
    if let UnpackInput::Tree { parents: true, .. } = request.input {
        archive::make_parents(path)?;
    }
    let destination = CopyDestination::look(path)?;
    let staged = StagingDirectory::beside(destination.directory().as_fd())
        .with_context(|| format!("cannot copy to {path:?}"))?;
    // Modes are kept as they come; everything belongs to whoever this is.
    let mut tree = staged.tree(UnpackRules { umask: 0, links: true })?;
    let input = BufReader::with_capacity(BUFFER, Unless(stream(io::stdin())?));
    let target = match &request.input {
        UnpackInput::Archive => {
            let target = directory_only(&destination, path)?;
            receive_foreign(input, &mut tree)?;
            target
        }
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
    let cargo = CopySource { name: None, contents: true, is_directory: true };
    match destination.target(&cargo)? {
        into @ CopyTarget::Into { .. } => Ok(into),
        CopyTarget::As { .. } => bail!("there is no directory {path:?}"),
    }
}

fn path(text: &crate::protocol::WireText) -> &Path {
    match text.as_bytes() {
        b"" => Path::new("."),
        _ => Path::new(text.as_os_str()),
    }
}

/// A standard stream without a buffer around it.
fn stream(fd: impl AsFd) -> Result<std::fs::File> {
    Ok(fd.as_fd().try_clone_to_owned().context("cannot use a standard stream")?.into())
}

/// Input that ends with an error once a signal asked to stop.
struct Unless<R>(R);

impl<R: Read> Read for Unless<R> {
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
    // Without SA_RESTART: a read that waits shall return.
    let action = SigAction::new(handler, SaFlags::empty(), SigSet::empty());
    for &signal in signals {
        // SAFETY: the handler only stores to an atomic.
        unsafe { sigaction(signal, &action) }.context("cannot handle signals")?;
    }
    Ok(())
}

/// Ends as the signal would have ended this without a handler.
fn die_of(number: i32) -> ExitCode {
    if let Ok(signal) = Signal::try_from(number)
        && on_signals(SigHandler::SigDfl, &[signal]).is_ok()
    {
        let _ = raise(signal);
    }
    ExitCode::FAILURE
}
