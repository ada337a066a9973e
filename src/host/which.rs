//! Finding programs.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use rustix::fs::{Access, access};

/// The absolute path of an executable: the path itself if it has a slash, else the first of that
/// name on `PATH`.
pub fn find(program: &Path) -> Option<PathBuf> {
    let executable = |path: &PathBuf| path.is_file() && access(path, Access::EXEC_OK).is_ok();
    if program.components().count() > 1 {
        return std::path::absolute(program).ok().filter(executable);
    }
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .filter(|directory| directory.is_absolute())
        .map(|directory| directory.join(program))
        .find(executable)
}

/// A program installed beside this one.
pub fn beside(name: &str) -> Option<PathBuf> {
    let sibling = std::env::current_exe().ok()?.with_file_name(name);
    find(&sibling)
}

/// Identifies a program's file as it is now: where it is, and what changes when another takes its place
/// or its content changes. For programs of the system, which are too large to be read each time.
pub fn stamp(program: &Path) -> Result<String> {
    let cannot = || format!("cannot look at {}", program.display());
    let path = program.canonicalize().with_context(cannot)?;
    let about = path.metadata().with_context(cannot)?;
    let (size, seconds, ns) = (about.len(), about.mtime(), about.mtime_nsec());
    Ok(format!("{} {size} {seconds}.{ns:09} {}:{}", path.display(), about.dev(), about.ino()))
}

/// What a program prints when run with `args`; it must end well.
#[expect(clippy::disallowed_methods, reason = "programs are run by this room")]
pub fn output(program: &Path, args: &[&str]) -> Result<String> {
    let ran = Command::new(program).args(args).stdin(Stdio::null()).output();
    let ran = ran.with_context(|| format!("cannot run {}", program.display()))?;
    if !ran.status.success() {
        bail!("{} failed: {}", program.display(), String::from_utf8_lossy(&ran.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&ran.stdout).into_owned())
}
