//! The first process of a guest.
use std::process::ExitCode;

/// Boots the guest and serves until it ends.
pub fn run() -> ExitCode {
    ExitCode::FAILURE
}
