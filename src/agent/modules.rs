//! Loading the kernel modules the image brings along.

use std::fs::{self, File};
use std::path::Path;

use nix::errno::Errno;
use nix::kmod::{ModuleInitFlags, finit_module};

use super::console;

/// Loads what `order` in this directory lists, one path a line, relative to the directory, each
/// after those it needs. Returns the ones that failed and why: whether that matters shows later,
/// when a device is missing. Without a list there is nothing to load.
pub fn load(directory: &Path) -> Vec<String> {
    let Ok(order) = fs::read_to_string(directory.join("order")) else {
        return Vec::new();
    };
    let mut failures = Vec::new();
    for line in order.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let loaded =
            File::open(directory.join(line)).map_err(|error| error.to_string()).and_then(|file| {
                match finit_module(file, c"", ModuleInitFlags::empty()) {
                    // Built in, or loaded before.
                    Ok(()) | Err(Errno::EEXIST) => Ok(()),
                    Err(errno) => Err(errno.desc().to_owned()),
                }
            });
        if let Err(why) = loaded {
            let failure = format!("module {line}: {why}");
            console::say(&failure);
            failures.push(failure);
        }
    }
    failures
}
