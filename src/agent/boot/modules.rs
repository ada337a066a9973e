//! Loading kernel modules.

use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::path::Path;

use nix::errno::Errno;
use nix::kmod::{ModuleInitFlags, finit_module};

use crate::agent::console;

/// Loads the `wanted` modules of the file `order` in this directory. It lists one path a line, relative
/// to the directory, dependencies first; without it there is nothing to load. Returns why modules
/// failed: that matters only if a device is missing later.
///
/// Each module without a device takes about 1 % of an emulated boot.
pub fn load(directory: &Path, wanted: impl Fn(&str) -> bool) -> Vec<String> {
    let Ok(order) = fs::read_to_string(directory.join("order")) else {
        return Vec::new();
    };
    let mut failures = Vec::new();
    let lines = order.lines().map(str::trim).filter(|line| !line.is_empty());
    for line in lines.filter(|line| wanted(line)) {
        if let Err(error) = load_file(&directory.join(line)) {
            let failure = format!("module {line}: {error}");
            console::print(&failure);
            failures.push(failure);
        }
    }
    failures
}

/// Loads one module and its dependencies from a directory with a `modules.dep`.
///
/// # Errors
/// [`ErrorKind::NotFound`] if there is no such module; the kernel's if it refuses one of them.
pub fn load_by_name(directory: &Path, name: &str) -> io::Result<()> {
    let dependencies = fs::read_to_string(directory.join("modules.dep"))?;
    let files = load_order(&dependencies, name)
        .ok_or_else(|| io::Error::new(ErrorKind::NotFound, format!("no module {name}")))?;
    files.into_iter().try_for_each(|file| load_file(&directory.join(file)))
}

/// The files to load for a module, in order. A line of `modules.dep` is `file: dependencies…`, with all
/// direct and indirect ones, in reverse order of loading.
fn load_order<'a>(dependencies: &'a str, name: &str) -> Option<Vec<&'a str>> {
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

/// Loads a module from an open file; one that is loaded already counts as success.
///
/// # Errors
/// The kernel's.
pub fn insert(module: &File) -> io::Result<()> {
    match finit_module(module, c"", ModuleInitFlags::empty()) {
        Ok(()) | Err(Errno::EEXIST) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dependencies_are_loaded_before_their_module() {
        let dependencies = "kernel/a/kvm.ko: kernel/b/irqbypass.ko\n\
                            kernel/a/kvm-amd.ko: kernel/c/ccp.ko kernel/a/kvm.ko kernel/b/irqbypass.ko\n";
        let order =
            ["kernel/b/irqbypass.ko", "kernel/a/kvm.ko", "kernel/c/ccp.ko", "kernel/a/kvm-amd.ko"];
        assert_eq!(load_order(dependencies, "kvm-amd").unwrap(), order);
        assert_eq!(load_order(dependencies, "kvm-intel"), None);
    }
}
