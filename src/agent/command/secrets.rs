//! A command's secrets as files that are never written to a disk.
//!
//! In a guest, each command with secrets has its own file system for them, mounted at [`DIRECTORY`] in
//! its own mount namespace. Other commands do not see it, commands that run at the same time can use the
//! same names, and the kernel removes it with the last process of the command. It is a ramfs because a
//! tmpfs can be swapped out. All other mounts are shared between the namespaces, so that what a command
//! with secrets mounts is visible to others.
//!
//! On the host, a plain process uses a directory on a tmpfs and deletes it when the command has ended.

use std::ffi::{CStr, OsString};
use std::fs::{self, DirBuilder, File};
use std::io::{self, ErrorKind, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use nix::mount::{MsFlags, mount};
use rustix::fs::{AtFlags, Gid, Mode, OFlags, Uid, chownat, fchown, openat};
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsconfig_set_string, fsmount,
    fsopen,
};

use super::failure::failure;
use super::user::UserAccount;
use crate::agent::vm::{AgentContext, AgentMode};
use crate::protocol::{AgentFailure, FailureKind, NamedSecret};
use crate::sys::{file_system, removal};

/// The directory in a guest, the same as in containers.
const DIRECTORY: &str = "/run/secrets";

/// [`DIRECTORY`] for system calls.
pub const MOUNT_POINT: &CStr = c"/run/secrets";

/// Secrets that were written.
#[derive(Debug)]
pub struct PlacedSecrets {
    /// The directory as the command sees it.
    pub path: OsString,
    /// The file system to mount there, in the command's own namespace.
    pub mount: Option<OwnedFd>,
    /// The directory to delete when the command has ended, if they are not on `mount`.
    pub directory: Option<SecretDirectory>,
}

/// A directory that is deleted on drop.
#[derive(Debug)]
pub struct SecretDirectory(PathBuf);

impl Drop for SecretDirectory {
    fn drop(&mut self) {
        let _ = removal::remove(&self.0);
    }
}

/// Writes secrets to files that only the command's user can read.
///
/// # Errors
/// [`FailureKind::Refused`] if there is no directory for them in memory; nothing is left of them after
/// any error.
pub fn place(
    secrets: &[NamedSecret],
    account: Option<&UserAccount>,
    context: &AgentContext,
) -> Result<PlacedSecrets, AgentFailure> {
    match &context.mode {
        AgentMode::Guest { .. } => write_to_ramfs(secrets, account).map_err(write_failure),
        AgentMode::Process { secrets: Some(parent), .. } => {
            write_to_directory(parent, secrets, account)
        }
        AgentMode::Process { secrets: None, .. } => {
            Err(failure(FailureKind::Refused, "this agent has no directory for secrets"))
        }
    }
}

fn write_failure(error: io::Error) -> AgentFailure {
    failure(FailureKind::Internal, format!("cannot write secrets: {error}"))
}

fn write_to_ramfs(
    secrets: &[NamedSecret],
    account: Option<&UserAccount>,
) -> io::Result<PlacedSecrets> {
    prepare_mount_point()?;
    let context = fsopen("ramfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_set_string(context.as_fd(), "mode", "0700")?;
    fsconfig_create(context.as_fd())?;
    let attributes = MountAttrFlags::MOUNT_ATTR_NOSUID
        | MountAttrFlags::MOUNT_ATTR_NODEV
        | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    let mount = fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, attributes)?;
    write_files(mount.as_fd(), secrets, account)?;
    Ok(PlacedSecrets { path: DIRECTORY.into(), mount: Some(mount), directory: None })
}

/// Makes [`DIRECTORY`] a mount point whose mounts are private to a namespace, and all others shared.
fn prepare_mount_point() -> io::Result<()> {
    let change =
        |target: &str, flags| mount(None::<&str>, target, None::<&str>, flags, None::<&str>);
    // This fails if it is not a mount point yet, or was unmounted.
    if change(DIRECTORY, MsFlags::MS_PRIVATE).is_ok() {
        return Ok(());
    }
    fs::create_dir_all(DIRECTORY)?;
    change("/", MsFlags::MS_SHARED | MsFlags::MS_REC)?;
    mount(Some(DIRECTORY), DIRECTORY, None::<&str>, MsFlags::MS_BIND, None::<&str>)?;
    Ok(change(DIRECTORY, MsFlags::MS_PRIVATE)?)
}

fn write_to_directory(
    parent: &Path,
    secrets: &[NamedSecret],
    account: Option<&UserAccount>,
) -> Result<PlacedSecrets, AgentFailure> {
    create_directory(parent).map_err(write_failure)?;
    if !File::open(parent).and_then(file_system::is_in_memory).map_err(write_failure)? {
        let _ = fs::remove_dir(parent);
        let message = format!(
            "secrets are kept in memory only, but {} is on a disk; set MAYFLY_RUNTIME_DIR to a \
             directory on a tmpfs",
            parent.display()
        );
        return Err(failure(FailureKind::Refused, message));
    }
    let path = (0..)
        .map(|number: u64| parent.join(number.to_string()))
        .find_map(|path| match create_directory(&path) {
            Ok(false) => None,
            created => Some(created.map(|_| path)),
        })
        .expect("numbers do not run out")
        .map_err(write_failure)?;
    let directory = SecretDirectory(path.clone());
    let opened = File::open(&path).map_err(write_failure)?;
    write_files(opened.as_fd(), secrets, account).map_err(write_failure)?;
    Ok(PlacedSecrets { path: path.into(), mount: None, directory: Some(directory) })
}

/// Returns `false` if the path exists already.
fn create_directory(path: &Path) -> io::Result<bool> {
    match DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(false),
        created => created.map(|()| true),
    }
}

fn write_files(
    directory: BorrowedFd<'_>,
    secrets: &[NamedSecret],
    account: Option<&UserAccount>,
) -> io::Result<()> {
    let owner =
        account.map(|account| (Uid::from_raw(account.ids.uid), Gid::from_raw(account.ids.gid)));
    for secret in secrets {
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
        let mut file = File::from(openat(directory, secret.name(), flags, Mode::RUSR)?);
        file.write_all(secret.value())?;
        if let Some((uid, gid)) = owner {
            fchown(&file, Some(uid), Some(gid))?;
        }
    }
    if let Some((uid, gid)) = owner {
        chownat(directory, "", Some(uid), Some(gid), AtFlags::EMPTY_PATH)?;
    }
    Ok(())
}
