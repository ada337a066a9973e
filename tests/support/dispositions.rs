//! Signals of a test program. `nohup` and a shell's background jobs ignore some, and so would the programs that tests
//! start: mayfly leaves ignored signals ignored.

use nix::sys::signal::{SigHandler, Signal, signal};

/// Runs before `main`, so before any test.
#[used]
#[unsafe(link_section = ".init_array")]
static RESET: extern "C" fn() = reset;

extern "C" fn reset() {
    for ignored in [Signal::SIGHUP, Signal::SIGINT, Signal::SIGQUIT, Signal::SIGTERM] {
        // SAFETY: no handler is installed, only the default.
        unsafe { signal(ignored, SigHandler::SigDfl) }.expect("these signals can be reset");
    }
}
