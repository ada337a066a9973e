//! The guest agent; see `mayfly::agent`.

use std::process::ExitCode;

fn main() -> ExitCode {
    mayfly::agent::run(std::env::args_os().skip(1))
}
