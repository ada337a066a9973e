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

/// A warning if QEMU is too old to give its VMs a network.
pub fn network(named: &Path) -> Option<HostCheck> {
    let version = first_line(&which::find(named)?).ok()?;
    let is_too_old = number(&version).is_some_and(|number| number < FIRST_WITH_NETWORK);
    is_too_old.then(|| {
        HostCheck::lacks(
            "qemu network",
            CheckVerdict::Warning,
            "this QEMU cannot connect VMs to a network, which QEMU 7.2 and later can",
            "install a newer one, or name it with MAYFLY_QEMU_BIN",
        )
    })
}

/// The first version with '-netdev stream'.
const FIRST_WITH_NETWORK: (u32, u32) = (7, 2);

/// The version in a line such as `QEMU emulator version 7.2.22 (Debian 1:7.2)`.
fn number(line: &str) -> Option<(u32, u32)> {
    let (_, rest) = line.split_once(" version ")?;
    let mut parts = rest.split(|c: char| !c.is_ascii_digit());
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

/// The first line that a program prints about its version, and the program.
fn version(path: &Path) -> Result<String> {
    Ok(format!("{} ({})", first_line(path)?, path.display()))
}

fn first_line(path: &Path) -> Result<String> {
    let printed = which::output(path, &["--version"])?;
    Ok(printed.lines().next().unwrap_or_default().trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_as_numbers() {
        for (line, is_enough) in [
            ("QEMU emulator version 7.2.22 (Debian 1:7.2+dfsg-7+deb12u18)", true),
            ("QEMU emulator version 7.1.0", false),
            ("QEMU emulator version 6.2.0 (Debian 1:6.2+dfsg-2ubuntu6.22)", false),
            ("QEMU emulator version 10.0.2", true),
        ] {
            assert_eq!(number(line).unwrap() >= FIRST_WITH_NETWORK, is_enough, "{line}");
        }
        assert_eq!(number("something else"), None);
    }
}
