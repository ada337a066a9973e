//! The ends of VMs' logs, for tests that fail.

use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

/// How much of a log's end is looked at, in bytes, and how much of it is shown, in lines.
const TAIL: u64 = 64 << 10;
const LINES: usize = 40;

/// Prints the last lines of every VM's console and of its VMM's own log.
pub fn show(state: &Path) {
    for vm in fs::read_dir(state.join("vms")).into_iter().flatten().flatten() {
        for name in ["console.log", "vmm.log"] {
            let path = vm.path().join(name);
            let text = tail(&path).unwrap_or_else(|error| format!("({error})"));
            eprintln!("--- the end of {}\n{text}", path.display());
        }
    }
}

fn tail(path: &Path) -> std::io::Result<String> {
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(TAIL)))?;
    let mut bytes = Vec::new();
    file.take(TAIL).read_to_end(&mut bytes)?;
    // A log that was shortened has a hole at its front.
    bytes.retain(|&byte| byte != 0);
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<&str> = text.lines().collect();
    Ok(lines[lines.len().saturating_sub(LINES)..].join("\n"))
}
