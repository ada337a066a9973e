//! `mayfly`: see the library for everything.

use std::process::ExitCode;

/// The C library calls what is in this section before the Rust standard library starts.
#[used]
#[unsafe(link_section = ".init_array")]
static HOLD_CLOSED_STREAMS: extern "C" fn() = mayfly::sys::descriptor::hold_closed_streams;

fn main() -> ExitCode {
    // Fails for no signal that exists.
    let _ = mayfly::sys::signals::notice_children();
    mayfly::cli::run(std::env::args_os())
}
