//! Finding programs, and identifying their versions.

use std::ffi::OsString;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use rustix::fs::{Access, access};

use crate::model::{Refusal, RefusalKind};

/// Where programs are if `PATH` names no directory, as in a service: root's `PATH` in Debian.
const SYSTEM_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Directories of administrators' programs. The `PATH` of an ordinary user on Debian lacks them.
const ADMIN_DIRECTORIES: [&str; 3] = ["/usr/local/sbin", "/usr/sbin", "/sbin"];

/// A program and the Debian package it comes in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HostTool {
    pub program: &'static str,
    pub package: &'static str,
}

impl HostTool {
    /// Finds the program in `PATH` or an administrator's directory.
    ///
    /// # Errors
    /// `Host`, with the package as a hint: it is not installed.
    pub fn find(&self) -> Result<PathBuf, Refusal> {
        first(self.program.as_ref(), search_path()).ok_or_else(|| {
            Refusal::new(RefusalKind::Host, format!("'{}' is not installed", self.program))
                .hint(format!("install it: apt install {}", self.package))
        })
    }
}

/// The absolute directories of `PATH`, then those of administrators' programs.
pub(super) fn search_path() -> Vec<PathBuf> {
    let mut directories = path_directories();
    for admin in ADMIN_DIRECTORIES.map(PathBuf::from) {
        if !directories.contains(&admin) {
            directories.push(admin);
        }
    }
    directories
}

/// The absolute directories of [`path`]. Relative ones are not searched: they would run what is in the current
/// directory.
fn path_directories() -> Vec<PathBuf> {
    std::env::split_paths(&path()).filter(|directory| directory.is_absolute()).collect()
}

/// `PATH`, or the system's if that names no absolute directory.
pub fn path() -> OsString {
    let is_usable = |path: &OsString| std::env::split_paths(path).any(|path| path.is_absolute());
    std::env::var_os("PATH").filter(is_usable).unwrap_or_else(|| SYSTEM_PATH.into())
}

/// The absolute path of an executable: `program` itself if it contains a slash, else the first of that
/// name in `PATH`.
pub fn find(program: &Path) -> Option<PathBuf> {
    if program.components().count() > 1 {
        return std::path::absolute(program).ok().filter(|path| is_executable(path));
    }
    first(program, path_directories())
}

fn first(program: &Path, directories: Vec<PathBuf>) -> Option<PathBuf> {
    directories
        .into_iter()
        .map(|directory| directory.join(program))
        .find(|path| is_executable(path))
}

fn is_executable(path: &Path) -> bool {
    path.is_file() && access(path, Access::EXEC_OK).is_ok()
}

/// The program of this name in the directory of the running one.
pub fn beside(name: &str) -> Option<PathBuf> {
    let sibling = std::env::current_exe().ok()?.with_file_name(name);
    find(&sibling)
}

/// A text that changes when a program's file is replaced or modified. It is for programs that are too large
/// to be read each time.
pub fn stamp(program: &Path) -> Result<String> {
    let cannot = || format!("cannot look at {}", program.display());
    let path = program.canonicalize().with_context(cannot)?;
    let about = path.metadata().with_context(cannot)?;
    let (size, seconds, ns) = (about.len(), about.mtime(), about.mtime_nsec());
    Ok(format!("{} {size} {seconds}.{ns:09} {}:{}", path.display(), about.dev(), about.ino()))
}

/// Runs a program and returns its standard output.
///
/// # Errors
/// It cannot be started, or does not exit with 0; then the error quotes its standard error.
#[expect(clippy::disallowed_methods, reason = "this is where programs are run")]
pub fn output(program: &Path, args: &[&str]) -> Result<String> {
    let ran = Command::new(program).args(args).stdin(Stdio::null()).output();
    let ran = ran.with_context(|| format!("cannot run {}", program.display()))?;
    if !ran.status.success() {
        bail!("{} failed: {}", program.display(), String::from_utf8_lossy(&ran.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&ran.stdout).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_program_names_its_package() {
        let refusal = HostTool { program: "no-such-program", package: "no-such-package" }.find();
        let refusal = refusal.unwrap_err();
        assert_eq!(refusal.kind, RefusalKind::Host);
        assert!(refusal.hint.unwrap().contains("apt install no-such-package"));
    }
}
