//! Where the building happens: namespaces of its own, in which whoever started mayfly is root.
//!
//! A root file system has files of many owners. Root can make those anyway; an ordinary user can with
//! a user namespace and the subordinate ids that /etc/subuid lends them. In both cases mounts vanish
//! and every process dies with the namespace's first one, which dies with us: a build that is killed
//! leaves files and nothing else.

use std::path::Path;

use anyhow::Result;
use nix::unistd::geteuid;

use crate::host::tool::{Run, Tool};
use crate::model::Refusal;

const UNSHARE: Tool = Tool { program: "unshare", package: "util-linux" };
const NEWUIDMAP: Tool = Tool { program: "newuidmap", package: "uidmap" };

/// What makes the sandbox.
pub fn tools() -> Vec<Tool> {
    if geteuid().is_root() { vec![UNSHARE] } else { vec![UNSHARE, NEWUIDMAP] }
}

/// A run of `tool` as root of the sandbox.
///
/// Errors: `Host`, naming the package, when a program is missing.
pub fn run(tool: Tool) -> Result<Run, Refusal> {
    let path = tool.find()?;
    let mut run = Run::new(&UNSHARE.find()?).named(tool.program);
    if !geteuid().is_root() {
        NEWUIDMAP.find()?;
        run = run.args(["--user", "--map-root-user", "--map-auto"]);
    }
    Ok(run.args(["--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "--"]).arg(path))
}

/// Deletes a directory that may hold files of the sandbox's users.
pub fn delete(directory: &Path) -> Result<()> {
    match crate::host::directory::remove(directory) {
        Ok(()) => Ok(()),
        Err(error) => {
            let inside = run(Tool { program: "rm", package: "coreutils" })?
                .args(["-rf", "--one-file-system", "--"])
                .arg(directory)
                .watch(&mut |_| {}, &|| false);
            inside.map_err(|_| error)
        }
    }
}
