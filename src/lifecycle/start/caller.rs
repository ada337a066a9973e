//! Who waits for a VM to come up.

use crate::host::signals::Signals;
use crate::lifecycle::timings::Timings;

/// A command of the user's that waits: it is told what happens, and can end it.
pub struct Caller<'a> {
    /// What ends the wait.
    pub signals: &'a mut Signals,
    /// Learns how long each phase took.
    pub timings: &'a mut Timings,
    /// Hears what is worth saying.
    pub remark: &'a mut dyn FnMut(Remark),
}

/// Something to say while a VM starts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Remark {
    /// Not what was to be expected.
    Odd(String),
    /// What takes a while, for a person who waits.
    Slow(String),
}
