//! Who waits for a VM to come up.

use crate::host::signals::PendingSignals;
use crate::lifecycle::timings::PhaseTimings;

/// A command of the user's that waits: it is told what happens, and can end it.
pub struct StartCaller<'a> {
    /// What ends the wait.
    pub signals: &'a mut PendingSignals,
    /// Learns how long each phase took.
    pub timings: &'a mut PhaseTimings,
    /// Hears what is worth saying.
    pub remark: &'a mut dyn FnMut(StartRemark),
}

/// Something to say while a VM starts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StartRemark {
    /// Not what was to be expected.
    Odd(String),
    /// What takes a while, for a person who waits.
    Slow(String),
}
