//! Where mayfly keeps its files: in the XDG directories for a user, in the system's for root.

use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use nix::unistd::{User, geteuid};
use sha2::{Digest, Sha256};

use crate::model::{Refusal, RefusalKind, layout};

/// The directories of this command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MayflyDirectories {
    pub state: PathBuf,
    /// Sockets; each state directory has another.
    pub run: PathBuf,
    pub artifacts: PathBuf,
    /// The parent of [`MayflyDirectories::run`].
    pub runtime: PathBuf,
}

impl MayflyDirectories {
    /// Takes what is `None` from the environment, or the default of the user or of root.
    ///
    /// # Errors
    /// `Usage` if the state directory is not UTF-8.
    pub fn resolve(
        state: Option<PathBuf>,
        artifacts: Option<PathBuf>,
        runtime: Option<PathBuf>,
    ) -> Result<MayflyDirectories> {
        let root = geteuid().is_root();
        let absolute = |path: Option<PathBuf>, name: &str| {
            let path = path.map(std::path::absolute).transpose();
            path.with_context(|| format!("cannot resolve {name}"))
        };
        let state = match absolute(state, "--state-dir")? {
            Some(state) => state,
            None if root => PathBuf::from("/var/lib/mayfly"),
            None => xdg_or_refuse("XDG_STATE_HOME", ".local/state")?,
        };
        // It is in the environment of a VM's processes and in JSON, where two such names could become one.
        if state.to_str().is_none() {
            let message = format!("the state directory {} is not UTF-8", state.display());
            return Err(Refusal::new(RefusalKind::Usage, message)
                .hint("name another one with --state-dir")
                .into());
        }
        let artifacts = match absolute(artifacts, "MAYFLY_ARTIFACTS_DIR")? {
            Some(artifacts) => artifacts,
            None if root => PathBuf::from("/var/lib/mayfly/artifacts"),
            None => xdg_or_refuse("XDG_DATA_HOME", ".local/share")?.join("artifacts"),
        };
        let runtime = absolute(runtime, "MAYFLY_RUNTIME_DIR")?;
        let runtime = runtime.unwrap_or_else(|| runtime_base(root));
        let run = runtime.join(short_name(&state));
        Ok(MayflyDirectories { state, run, artifacts, runtime })
    }

    /// The VMs' directories.
    pub fn vms(&self) -> PathBuf {
        self.state.join(layout::VMS)
    }

    /// Programs that are preferred to those on `PATH`.
    pub fn programs(&self) -> PathBuf {
        self.artifacts.join(layout::PROGRAMS)
    }
}

/// Where sockets are. Cron sets no `XDG_RUNTIME_DIR`, but must find the sockets of VMs that were started at
/// a terminal, so systemd's directory is tried as well. `su` keeps the variable of another user.
fn runtime_base(root: bool) -> PathBuf {
    let me = geteuid();
    if root {
        return PathBuf::from("/run/mayfly");
    }
    let is_mine = |path: &PathBuf| {
        path.metadata().is_ok_and(|meta| meta.is_dir() && meta.uid() == me.as_raw())
    };
    let given = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
    let candidates = [given, Some(format!("/run/user/{me}").into())];
    let found = candidates.into_iter().flatten().filter(|path| path.is_absolute()).find(is_mine);
    match found {
        Some(runtime) => runtime.join("mayfly"),
        // Not TMPDIR, which may differ between commands.
        None => PathBuf::from(format!("/tmp/mayfly-{me}")),
    }
}

/// A name for a state directory, short because a socket's path has at most 107 bytes.
fn short_name(state: &Path) -> String {
    let digest = Sha256::digest(state.as_os_str().as_bytes());
    digest[..4].iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A directory for mayfly's files of one kind: in the one that `variable` names, or below the home.
pub(super) fn xdg(variable: &str, below_home: &str) -> Option<PathBuf> {
    // The XDG specification: relative values must be ignored.
    let given = std::env::var_os(variable).map(PathBuf::from).filter(|path| path.is_absolute());
    Some(given.or_else(|| Some(home()?.join(below_home)))?.join("mayfly"))
}

/// The user's home directory: `HOME`, or the one in the user database, as cron and services may not set it.
pub(super) fn home() -> Option<PathBuf> {
    let given = std::env::var_os("HOME").map(PathBuf::from);
    let listed = || Some(User::from_uid(geteuid()).ok()??.dir);
    given.filter(|home| home.is_absolute()).or_else(|| listed().filter(|home| home.is_absolute()))
}

fn xdg_or_refuse(variable: &str, below_home: &str) -> Result<PathBuf> {
    xdg(variable, below_home).with_context(|| {
        format!(
            "neither {variable} nor HOME is set, and you are not in /etc/passwd; name a directory with \
             --state-dir"
        )
    })
}
