//! Whether QEMU works.

use std::path::Path;

use anyhow::Result;

use crate::host::which;
use crate::model::{CheckVerdict, HostCheck};

/// The check of QEMU. `selected` says whether it can be selected as the backend, and `severity` is the verdict
/// if it does not work.
pub fn check(named: &Path, selected: Result<()>, severity: CheckVerdict) -> HostCheck {
    let Some(path) = which::find(named) else {
        return HostCheck::lacks(
            "qemu",
            severity,
            format!("{} is not installed", named.display()),
            "install it: apt install qemu-system-x86",
        );
    };
    match (selected, version(&path)) {
        (Err(error), _) => HostCheck::of::<anyhow::Error>("qemu", severity, Err(error)),
        (_, Ok(version)) => HostCheck::ok("qemu", version),
        (_, Err(error)) => {
            let remedy = "reinstall it, or name another with MAYFLY_QEMU_BIN";
            HostCheck::lacks("qemu", severity, format!("{error:#}"), remedy)
        }
    }
}

/// The first line that a program prints about its version.
fn version(path: &Path) -> Result<String> {
    let printed = which::output(path, &["--version"])?;
    Ok(format!("{} ({})", printed.lines().next().unwrap_or_default().trim(), path.display()))
}
