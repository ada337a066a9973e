//! Loading the kernel modules the image brings along.

use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::path::Path;

use nix::errno::Errno;
use nix::kmod::{ModuleInitFlags, finit_module};

use crate::agent::console;

/// Loads what `order` in this directory lists and is `wanted`, one path a line, relative to the
/// directory, each after those it needs. Returns the ones that failed and why: whether that matters
/// shows later, when a device is missing. Without a list there is nothing to load.
///
/// A module that drives nothing costs a hundredth of an emulated boot.
pub fn load(directory: &Path, wanted: impl Fn(&str) -> bool) -> Vec<String> {
    let Ok(order) = fs::read_to_string(directory.join("order")) else {
        return Vec::new();
    };
    let mut failures = Vec::new();
    let lines = order.lines().map(str::trim).filter(|line| !line.is_empty());
    for line in lines.filter(|line| wanted(line)) {
        if let Err(error) = load_file(&directory.join(line)) {
            let failure = format!("module {line}: {error}");
            console::say(&failure);
            failures.push(failure);
        }
    }
    failures
}

/// Loads one module by name, and before it what it needs, from a directory with a `modules.dep`.
///
/// # Errors
/// There is no such module, or the kernel refuses it or one it needs.
pub fn load_by_name(directory: &Path, name: &str) -> io::Result<()> {
    let dependencies = fs::read_to_string(directory.join("modules.dep"))?;
    let files = needed(&dependencies, name)
        .ok_or_else(|| io::Error::new(ErrorKind::NotFound, format!("there is no module {name}")))?;
    files.into_iter().try_for_each(|file| load_file(&directory.join(file)))
}

/// The files to load for a module, in order. A line of `modules.dep` is `file: needs…` with
/// everything that is needed, what must come first last.
fn needed<'a>(dependencies: &'a str, name: &str) -> Option<Vec<&'a str>> {
    let file_name = format!("{name}.ko");
    let (file, needs) = dependencies
        .lines()
        .filter_map(|line| line.split_once(':'))
        .find(|(file, _)| file.rsplit('/').next() == Some(&file_name))?;
    Some(needs.split_ascii_whitespace().rev().chain([file]).collect())
}

fn load_file(path: &Path) -> io::Result<()> {
    insert(&File::open(path)?)
}

/// Loads one module that is open.
///
/// # Errors
/// The kernel refuses it; not if it is there already.
pub fn insert(module: &File) -> io::Result<()> {
    match finit_module(module, c"", ModuleInitFlags::empty()) {
        // Built in, or loaded before.
        Ok(()) | Err(Errno::EEXIST) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_module_needs_comes_before_it() {
        let dependencies = "kernel/a/kvm.ko: kernel/b/irqbypass.ko\n\
                            kernel/a/kvm-amd.ko: kernel/c/ccp.ko kernel/a/kvm.ko kernel/b/irqbypass.ko\n";
        let order =
            ["kernel/b/irqbypass.ko", "kernel/a/kvm.ko", "kernel/c/ccp.ko", "kernel/a/kvm-amd.ko"];
        assert_eq!(needed(dependencies, "kvm-amd").unwrap(), order);
        assert_eq!(needed(dependencies, "kvm-intel"), None);
    }
}
