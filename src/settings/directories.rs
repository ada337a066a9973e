//! Where things are kept: the XDG directories for a user, the system's for root.

use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use nix::unistd::geteuid;
use sha2::{Digest, Sha256};

/// The places this command works in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Directories {
    pub state: PathBuf,
    /// Sockets; a directory of its own for each state directory.
    pub run: PathBuf,
    pub artifacts: PathBuf,
}

impl Directories {
    /// Fills in what was not given from the environment and the user's kind.
    pub fn resolve(state: Option<PathBuf>, artifacts: Option<PathBuf>) -> Result<Directories> {
        let root = geteuid().is_root();
        let state = match state {
            Some(state) => std::path::absolute(&state).context("cannot resolve --state-dir")?,
            None if root => PathBuf::from("/var/lib/mayfly"),
            None => xdg("XDG_STATE_HOME", ".local/state")?,
        };
        let artifacts = match artifacts {
            Some(artifacts) => {
                std::path::absolute(&artifacts).context("cannot resolve MAYFLY_ARTIFACTS_DIR")?
            }
            None if root => PathBuf::from("/var/lib/mayfly/artifacts"),
            None => xdg("XDG_DATA_HOME", ".local/share")?.join("artifacts"),
        };
        let run = runtime_base(root).join(short_name(&state));
        Ok(Directories { state, run, artifacts })
    }
}

fn runtime_base(root: bool) -> PathBuf {
    let given = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    match (given("MAYFLY_RUNTIME_DIR"), given("XDG_RUNTIME_DIR")) {
        (Some(given), _) => std::path::absolute(&given).unwrap_or(given),
        (None, _) if root => PathBuf::from("/run/mayfly"),
        (None, Some(xdg)) => xdg.join("mayfly"),
        (None, None) => std::env::temp_dir().join(format!("mayfly-{}", geteuid())),
    }
}

/// Short, because a socket's whole path has at most 107 bytes, and the same for every command that
/// works on the same state directory.
fn short_name(state: &Path) -> String {
    let digest = Sha256::digest(state.as_os_str().as_bytes());
    digest[..4].iter().map(|byte| format!("{byte:02x}")).collect()
}

fn xdg(variable: &str, below_home: &str) -> Result<PathBuf> {
    // The XDG specification says that a relative value is to be ignored.
    let given = std::env::var_os(variable).map(PathBuf::from).filter(|path| path.is_absolute());
    match given {
        Some(base) => Ok(base.join("mayfly")),
        None => {
            let home =
                std::env::var_os("HOME").filter(|home| !home.is_empty()).with_context(|| {
                    format!("neither {variable} nor HOME is set; name a directory with --state-dir")
                })?;
            Ok(PathBuf::from(home).join(below_home).join("mayfly"))
        }
    }
}
