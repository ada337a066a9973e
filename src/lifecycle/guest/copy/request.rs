//! Requests to copy.

use std::os::fd::OwnedFd;
use std::path::PathBuf;

use crate::archive::CopyDestination;
use crate::protocol::{ExecProgram, ExecRequest, WireText};

/// A request to copy something into a VM.
#[derive(Debug)]
pub struct CopyIn {
    pub payload: CopyPayload,
    /// The destination in the VM, by the rules of docker cp.
    pub to: WireText,
    /// Create missing parent directories.
    pub parents: bool,
    pub run_as: CopyUser,
}

/// What to copy.
#[derive(Debug)]
pub enum CopyPayload {
    Tree {
        path: PathBuf,
        /// If it is a link, copy what it leads to.
        follow: bool,
        /// Copy only the contents of a directory, whatever its name.
        contents: bool,
        /// Leave out what git ignores.
        exclude_ignored: bool,
    },
    /// A tar archive, of any kind.
    Archive(OwnedFd),
}

/// A request to copy something out of a VM.
#[derive(Debug)]
pub struct CopyOut {
    /// The path in the VM.
    pub path: WireText,
    /// If it is a link, copy what it leads to.
    pub follow: bool,
    pub to: CopyStore,
    pub run_as: CopyUser,
}

/// The destination.
#[derive(Debug)]
pub enum CopyStore {
    Files(CopyDestination),
    /// A tar archive.
    Archive(OwnedFd),
}

/// The user who copies in the VM, and the directory where relative paths begin; by default as for commands.
#[derive(Debug, Clone, Default)]
pub struct CopyUser {
    pub user: Option<String>,
    pub cwd: Option<WireText>,
}

pub fn request(program: ExecProgram, run_as: CopyUser, stdin: bool) -> ExecRequest {
    ExecRequest { user: run_as.user, cwd: run_as.cwd, stdin, ..ExecRequest::of(program) }
}
