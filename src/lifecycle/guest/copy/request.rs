//! What can be copied, from where and to where.

use std::os::fd::OwnedFd;
use std::path::PathBuf;

use crate::archive::Destination;
use crate::protocol::{Exec, Program, Text};

/// Something to be copied into a VM.
#[derive(Debug)]
pub struct CopyIn {
    pub parcel: Parcel,
    /// Where to, in the VM: docker cp's rules.
    pub to: Text,
    /// Make the directories above that are not there.
    pub parents: bool,
    pub who: Who,
}

/// What is copied in.
#[derive(Debug)]
pub enum Parcel {
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
    pub path: Text,
    /// If it is a link, copy what it leads to.
    pub follow: bool,
    pub to: Store,
    pub who: Who,
}

/// Where it goes.
#[derive(Debug)]
pub enum Store {
    Place(Destination),
    /// A tar archive.
    Archive(OwnedFd),
}

/// Who copies in the VM, and where relative paths begin; by default as for commands.
#[derive(Debug, Clone, Default)]
pub struct Who {
    pub user: Option<String>,
    pub cwd: Option<Text>,
}

pub fn request(program: Program, who: Who, stdin: bool) -> Exec {
    Exec { user: who.user, cwd: who.cwd, stdin, ..Exec::of(program) }
}
