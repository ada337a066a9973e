//! What a session must know about its VM.

use std::fmt::Debug;
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
