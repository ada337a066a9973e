//! One-line messages for the console log of the VMM or of the mock backend.

use std::io::Write;

/// Prints one line on standard error, which in a guest is the console. Failures are ignored.
pub fn print(message: &str) {
    let line = format!("mayfly-agent: {message}\n");
    let _ = std::io::stderr().write_all(line.as_bytes());
}
