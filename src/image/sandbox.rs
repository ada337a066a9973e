//! The namespaces in which images are built, where the user of mayfly is root.
//!
//! The files of a root file system have many owners. Root can create them; another user needs a user
//! namespace and the subordinate ids in /etc/subuid. If mayfly dies, so does the first process in the
//! namespaces, and with it all others and the mounts: a killed build leaves only files.

use std::path::Path;

use anyhow::{Context, Result};
use nix::unistd::geteuid;

use super::build_error;
use super::progress::ProgressSink;
use crate::host::confinement::{self, FileReach};
use crate::host::tool::ToolRun;
use crate::host::which::HostTool;
use crate::model::Refusal;

const UNSHARE: HostTool = HostTool { program: "unshare", package: "util-linux" };
const NEWUIDMAP: HostTool = HostTool { program: "newuidmap", package: "uidmap" };

/// The programs that make the sandbox.
pub fn tools() -> Vec<HostTool> {
    if geteuid().is_root() { vec![UNSHARE] } else { vec![UNSHARE, NEWUIDMAP] }
}

/// A run of `tool` as root of the sandbox.
///
/// # Errors
/// `Host`, with the name of the package, if a program is missing.
pub fn run(tool: HostTool) -> Result<ToolRun, Refusal> {
    Ok(enter(&["--net"])?.named(tool.program).arg(tool.find()?))
}

/// A run of `tool` as root of the sandbox, with this host's network.
///
/// # Errors
/// Those of [`run`].
pub fn run_online(tool: HostTool) -> Result<ToolRun, Refusal> {
    Ok(enter(&[])?.named(tool.program).arg(tool.find()?))
}

/// A run of `tool`, which reads files from strangers, as root of the sandbox and confined to the files in `reach`.
///
/// # Errors
/// Those of [`run`].
pub fn run_confined(tool: HostTool, reach: FileReach) -> Result<ToolRun> {
    confinement::confined(enter(&["--net"])?.named(tool.program), &tool.find()?, reach)
}

/// A run of mayfly itself as root of the sandbox.
pub fn run_ourselves() -> Result<ToolRun> {
    // By its path, since /proc/self is another process there.
    let ourselves = std::env::current_exe().context("cannot find this program's file")?;
    Ok(enter(&["--net"])?.named("mayfly").arg(ourselves))
}

/// Namespaces of its own, `more` among them.
fn enter(more: &[&str]) -> Result<ToolRun, Refusal> {
    let mut run = ToolRun::new(&UNSHARE.find()?);
    if !geteuid().is_root() {
        NEWUIDMAP.find()?;
        run = run.args(["--user", "--map-root-user", "--map-auto"]);
    }
    let namespaces = ["--mount", "--pid", "--ipc"];
    Ok(run.args(namespaces).args(more).args(["--fork", "--kill-child", "--mount-proc", "--"]))
}

/// Runs a program and reports what `reported` takes from its lines. `place` is where it writes, and an error
/// begins with `doing`.
pub fn watch(
    run: ToolRun,
    place: &Path,
    doing: &str,
    reported: fn(&str) -> Option<&str>,
    progress: &mut dyn ProgressSink,
) -> Result<()> {
    // Both closures need it, but never at the same time.
    let progress = std::cell::RefCell::new(progress);
    let mut line = |line: &str| {
        if let Some(text) = reported(line) {
            progress.borrow_mut().detail(text);
        }
    };
    run.watch(&mut line, &|| progress.borrow().cancelled())
        .map_err(|error| build_error::explain(error, doing, place))
}

/// Reports no line.
pub fn silent(_: &str) -> Option<&str> {
    None
}

/// Deletes a directory that may hold files of the sandbox's users.
pub fn delete(directory: &Path) -> Result<()> {
    match crate::host::directory::remove(directory) {
        Ok(()) => Ok(()),
        Err(error) => {
            let inside = run(HostTool { program: "rm", package: "coreutils" })?
                .args(["-rf", "--one-file-system", "--"])
                .arg(directory)
                .watch(&mut |_| {}, &|| false);
            inside.map_err(|_| error)
        }
    }
}
