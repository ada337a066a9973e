//! What a session must know about its VM.

use std::fmt::Debug;
use std::os::fd::BorrowedFd;
use std::time::Instant;

use super::outcome::CommandExit;

/// What is known on this host about a VM.
pub trait VmOutlook: Debug + Send {
    /// When it expires. It may be given more time at any moment.
    fn expires(&self) -> Option<Instant>;

    /// Its name, or its id if it has none.
    fn name(&self) -> &str;

    /// Why it is ending or has ended, if mayfly ended it.
    fn ending(&self) -> Option<VmEnding>;

    /// Readable when there may be news for the user; `None` if there are none.
    fn news_source(&self) -> Option<BorrowedFd<'_>> {
        None
    }

    /// News since the last call, a line each.
    fn news(&self) -> Vec<String> {
        Vec::new()
    }

    /// What to tell after the command, of which `shown` could be seen only for a moment.
    fn conclusion(&self, shown: Vec<String>) -> Vec<String> {
        shown
    }

    /// Tells the user a line.
    fn tell(&self, _line: &str) {}

    /// Whether the guest is paused, so that it cannot end a command.
    fn is_waiting(&self) -> bool {
        false
    }
}

/// Why a VM ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VmEnding {
    /// Its time to live is over.
    Expired,
    /// `stop`, `rm` or `reap` ends it.
    Stopped,
}

impl From<VmEnding> for CommandExit {
    fn from(ending: VmEnding) -> CommandExit {
        match ending {
            VmEnding::Expired => CommandExit::VmExpired,
            VmEnding::Stopped => CommandExit::VmStopped,
        }
    }
}
