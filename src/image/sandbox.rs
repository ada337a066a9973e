//! Where the building happens: namespaces of its own, in which whoever started mayfly is root.
//!
//! A root file system has files of many owners. Root can make those anyway; an ordinary user can with
//! a user namespace and the subordinate ids that /etc/subuid lends them. In both cases mounts vanish
//! and every process dies with the namespace's first one, which dies with us: a build that is killed
//! leaves files and nothing else.

use std::path::Path;

use anyhow::{Context, Result};
use nix::unistd::geteuid;

use super::build_error;
use super::progress::ProgressSink;
use crate::host::tool::ToolRun;
use crate::host::which::HostTool;
use crate::model::Refusal;

const UNSHARE: HostTool = HostTool { program: "unshare", package: "util-linux" };
const NEWUIDMAP: HostTool = HostTool { program: "newuidmap", package: "uidmap" };

/// What makes the sandbox.
pub fn tools() -> Vec<HostTool> {
    if geteuid().is_root() { vec![UNSHARE] } else { vec![UNSHARE, NEWUIDMAP] }
}

/// A run of `tool` as root of the sandbox.
///
/// Errors: `Host`, naming the package, when a program is missing.
pub fn run(tool: HostTool) -> Result<ToolRun, Refusal> {
    Ok(enter()?.named(tool.program).arg(tool.find()?))
}

/// A run of our own program as root of the sandbox.
pub fn run_ourselves() -> Result<ToolRun> {
    // By its name, since /proc/self is another's there.
    let ourselves = std::env::current_exe().context("cannot find this program's file")?;
    Ok(enter()?.named("mayfly").arg(ourselves))
}

fn enter() -> Result<ToolRun, Refusal> {
    let mut run = ToolRun::new(&UNSHARE.find()?);
    if !geteuid().is_root() {
        NEWUIDMAP.find()?;
        run = run.args(["--user", "--map-root-user", "--map-auto"]);
    }
    Ok(run.args(["--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "--"]))
}

/// Runs a program, showing what `spoken` takes from its lines. `place` is where it writes, `doing` what
/// an error begins with.
pub fn watch(
    run: ToolRun,
    place: &Path,
    doing: &str,
    spoken: fn(&str) -> Option<&str>,
    progress: &mut dyn ProgressSink,
) -> Result<()> {
    // One value lends itself to both closures: a line is never reported while a question is asked.
    let progress = std::cell::RefCell::new(progress);
    let mut line = |line: &str| {
        if let Some(text) = spoken(line) {
            progress.borrow_mut().detail(text);
        }
    };
    run.watch(&mut line, &|| progress.borrow().cancelled())
        .map_err(|error| build_error::explain(error, doing, place))
}

/// For programs that say nothing of interest.
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
