//! Signals that every part of mayfly treats alike.

use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};

/// The signals by which a user or a service manager asks a program to stop.
pub const STOPPING: [Signal; 4] =
    [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP, Signal::SIGQUIT];

/// Ignores a signal in this process, and in the programs it starts.
pub fn ignore(signal: Signal) -> nix::Result<()> {
    let ignore = SigAction::new(SigHandler::SigIgn, SaFlags::empty(), SigSet::empty());
    // SAFETY: ignoring a signal runs no handler.
    unsafe { sigaction(signal, &ignore) }.map(drop)
}
