//! One-line messages where somebody may see them: the VMM's console log, or the mock's.

use std::io::Write;

/// Says one line on standard error, which in a guest is the console. Losing it is not an error.
pub fn say(message: &str) {
    let line = format!("mayfly-agent: {message}\n");
    let _ = std::io::stderr().write_all(line.as_bytes());
}
