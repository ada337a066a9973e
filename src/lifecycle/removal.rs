//! What verbs report about the things they delete.

use std::fmt;

use crate::model::record::reason;
use crate::model::{ProfileName, VmId};

/// Something that can be deleted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RemovedThing {
    Vm(VmId),
    /// The image of this profile.
    Image(ProfileName),
    Template(String),
    /// What belongs to none of these: a path, or a process.
    Leftover(String),
}

impl RemovedThing {
    pub fn name(&self) -> &str {
        match self {
            RemovedThing::Vm(id) => id.as_str(),
            RemovedThing::Image(profile) => profile.as_str(),
            RemovedThing::Template(name) | RemovedThing::Leftover(name) => name,
        }
    }
}

impl fmt::Display for RemovedThing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self {
            RemovedThing::Vm(_) => "VM ",
            RemovedThing::Image(_) => "image ",
            RemovedThing::Template(_) => "template ",
            RemovedThing::Leftover(_) => "",
        };
        write!(f, "{kind}{}", self.name())
    }
}

/// The result of a deletion.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemovalReport {
    pub what: RemovedThing,
    /// Whether it was there and is gone now.
    pub deleted: bool,
    /// One of [`reason`].
    pub reason: String,
}

impl RemovalReport {
    /// A deletion for this reason; with `dry_run`, one that would happen.
    pub fn of(what: RemovedThing, reason: &str, dry_run: bool) -> RemovalReport {
        RemovalReport { what, deleted: !dry_run, reason: reason.to_owned() }
    }

    /// What a user wanted to delete, and whether it was there.
    pub fn explicit(what: RemovedThing, was_there: bool) -> RemovalReport {
        let reason = if was_there { reason::EXPLICIT } else { reason::ABSENT };
        RemovalReport { what, deleted: was_there, reason: reason.to_owned() }
    }
}
