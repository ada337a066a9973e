//! The ends of VMs' logs, for failed tests.

use std::fs;
use std::path::Path;

use mayfly::host::log;

/// How many lines of a log are shown.
const LINES: usize = 40;

/// Prints the last lines of every VM's console and of its VMM's log.
pub fn show(state: &Path) {
    for vm in fs::read_dir(state.join("vms")).into_iter().flatten().flatten() {
        for name in ["console.log", "vmm.log"] {
            let path = vm.path().join(name);
            eprintln!("--- the end of {}\n{}", path.display(), log::tail(&path, LINES).join("\n"));
        }
    }
}
