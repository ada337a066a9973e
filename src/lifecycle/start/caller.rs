//! What a start reports to its caller.

use crate::host::signals::PendingSignals;
use crate::lifecycle::timings::PhaseTimings;
use crate::model::PublishedPort;

/// The caller of a start: what interrupts it, and what it learns.
pub struct StartCaller<'a> {
    /// A signal here interrupts the start.
    pub signals: &'a mut PendingSignals,
    /// The duration of each phase.
    pub timings: &'a mut PhaseTimings,
    /// Receives messages for the user.
    pub remark: &'a mut dyn FnMut(StartRemark),
}

/// A message for the user while a VM starts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StartRemark {
    /// The VM is a process of this host like any other.
    NotIsolated,
    /// A free port of the host was chosen.
    Published(PublishedPort),
    /// Something unexpected.
    Warning(String),
    /// Something that takes a while.
    Progress(String),
}
