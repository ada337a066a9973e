//! What can be copied, from where and to where.

use std::os::fd::OwnedFd;
use std::path::PathBuf;

use crate::archive::CopyDestination;
use crate::protocol::{ExecProgram, ExecRequest, WireText};

/// Something to be copied into a VM.
#[derive(Debug)]
pub struct CopyIn {
    pub parcel: CopyPayload,
    /// Where to, in the VM: docker cp's rules.
    pub to: WireText,
    /// Make the directories above that are not there.
    pub parents: bool,
    pub who: CopyUser,
}

/// What is copied in.
#[derive(Debug)]
pub enum CopyPayload {
    Tree {
        path: PathBuf,
        /// If it is a link, copy what it leads to.
        follow: bool,
        /// Of a directory, only what is in it, whatever its name.
        contents: bool,
        /// Leave out what git ignores.
        exclude_ignored: bool,
    },
    /// A tar archive, of any kind.
    Archive(OwnedFd),
}

/// Something to be copied out of a VM.
#[derive(Debug)]
pub struct CopyOut {
    /// Where it is, in the VM.
    pub path: WireText,
    /// If it is a link, copy what it leads to.
    pub follow: bool,
    pub to: CopyStore,
    pub who: CopyUser,
}

/// Where it goes.
#[derive(Debug)]
pub enum CopyStore {
    Place(CopyDestination),
    /// A tar archive.
    Archive(OwnedFd),
}

/// Who copies in the VM, and where relative paths begin; by default as for commands.
#[derive(Debug, Clone, Default)]
pub struct CopyUser {
    pub user: Option<String>,
    pub cwd: Option<WireText>,
}

pub fn request(program: ExecProgram, who: CopyUser, stdin: bool) -> ExecRequest {
    ExecRequest { user: who.user, cwd: who.cwd, stdin, ..ExecRequest::of(program) }
}
