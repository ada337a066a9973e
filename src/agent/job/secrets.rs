//! A command's secrets as files, which no disk ever sees.
//!
//! In a guest each command with secrets gets a file system of its own for them, mounted at
//! [`DIRECTORY`] in a mount namespace of its own: other commands do not see it, two that run at the
//! same time can have secrets of one name, and the kernel takes it away with the last process of the
//! command. It is a ramfs, which unlike tmpfs is never swapped out. All other mounts are shared between
//! the namespaces, so that a command with secrets can mount for everybody as any other can.
//!
//! A plain process of the host has a directory on a tmpfs for them, which is deleted when the command
//! has ended.

use std::ffi::{CStr, OsString};
use std::fs::{self, DirBuilder, File};
use std::io::{self, ErrorKind, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use nix::mount::{MsFlags, mount};
use nix::sys::statfs::{FsType, TMPFS_MAGIC, fstatfs};
use rustix::fs::{AtFlags, Gid, Mode, OFlags, Uid, chownat, fchown, openat};
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsconfig_set_string, fsmount,
    fsopen,
};

use super::failure::failure;
use super::user::UserAccount;
use crate::agent::vm::{AgentContext, AgentMode};
use crate::protocol::{AgentFailure, FailureKind, NamedSecret};

/// Where a guest's commands find them, as in containers.
pub const DIRECTORY: &str = "/run/secrets";

/// The same for system calls.
pub const MOUNT_POINT: &CStr = c"/run/secrets";

/// The kernel's file system of nothing but memory, from linux/magic.h.
const RAMFS_MAGIC: FsType = FsType(0x8584_58f6);

/// Secrets that are in their place.
#[derive(Debug)]
pub struct PlacedSecrets {
    /// The directory with them, as the command sees it.
    pub path: OsString,
    /// A file system to be mounted there, in a namespace of the command's own.
    pub mount: Option<OwnedFd>,
    /// What must be deleted, where nothing else takes them away.
    pub directory: Option<SecretDirectory>,
}

/// A directory that is deleted with this value.
#[derive(Debug)]
pub struct SecretDirectory(PathBuf);

impl Drop for SecretDirectory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Makes files of secrets, for the user who runs the command.
///
/// # Errors
/// A [`AgentFailure`] that says why there can be none. Nothing is left of them then.
pub fn place(
    secrets: &[NamedSecret],
    account: Option<&UserAccount>,
    world: &AgentContext,
) -> Result<PlacedSecrets, AgentFailure> {
    match &world.kind {
        AgentMode::Guest { .. } => in_a_mount(secrets, account)
            .map_err(|error| failure(FailureKind::Internal, format!("place secrets: {error}"))),
        AgentMode::Process { secrets: Some(place), .. } => in_a_directory(place, secrets, account),
        AgentMode::Process { secrets: None, .. } => {
            Err(failure(FailureKind::Refused, "this agent has no place for secrets"))
        }
    }
}

fn in_a_mount(secrets: &[NamedSecret], account: Option<&UserAccount>) -> io::Result<PlacedSecrets> {
    provide_mount_point()?;
    let context = fsopen("ramfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_set_string(context.as_fd(), "mode", "0700")?;
    fsconfig_create(context.as_fd())?;
    let attributes = MountAttrFlags::MOUNT_ATTR_NOSUID
        | MountAttrFlags::MOUNT_ATTR_NODEV
        | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    let mount = fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, attributes)?;
    fill(mount.as_fd(), secrets, account)?;
    Ok(PlacedSecrets { path: DIRECTORY.into(), mount: Some(mount), directory: None })
}

/// Makes sure that what is mounted at [`DIRECTORY`] is seen in that namespace only, and that what is
/// mounted elsewhere is seen in all.
fn provide_mount_point() -> io::Result<()> {
    let change =
        |target: &str, flags| mount(None::<&str>, target, None::<&str>, flags, None::<&str>);
    // Done already, by the command before; or it is no mount point (any more).
    if change(DIRECTORY, MsFlags::MS_PRIVATE).is_ok() {
        return Ok(());
    }
    fs::create_dir_all(DIRECTORY)?;
    change("/", MsFlags::MS_SHARED | MsFlags::MS_REC)?;
    mount(Some(DIRECTORY), DIRECTORY, None::<&str>, MsFlags::MS_BIND, None::<&str>)?;
    Ok(change(DIRECTORY, MsFlags::MS_PRIVATE)?)
}

fn in_a_directory(
    place: &Path,
    secrets: &[NamedSecret],
    account: Option<&UserAccount>,
) -> Result<PlacedSecrets, AgentFailure> {
    let failed =
        |error: io::Error| failure(FailureKind::Internal, format!("place secrets: {error}"));
    make_directory(place).or_else(if_there).map_err(failed)?;
    let kind = File::open(place).and_then(|place| Ok(fstatfs(&place)?.filesystem_type()));
    if ![TMPFS_MAGIC, RAMFS_MAGIC].contains(&kind.map_err(failed)?) {
        let _ = fs::remove_dir(place);
        let message = format!(
            "secrets belong into memory, and {} would be on a disk; set MAYFLY_RUNTIME_DIR to a \
             directory on a tmpfs",
            place.display()
        );
        return Err(failure(FailureKind::Refused, message));
    }
    let path = (0..)
        .map(|number: u64| place.join(number.to_string()))
        .find_map(|path| match make_directory(&path) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => None,
            made => Some(made.map(|()| path)),
        })
        .expect("numbers do not run out")
        .map_err(failed)?;
    let directory = SecretDirectory(path.clone());
    let opened = File::open(&path).map_err(failed)?;
    fill(opened.as_fd(), secrets, account).map_err(failed)?;
    Ok(PlacedSecrets { path: path.into(), mount: None, directory: Some(directory) })
}

fn make_directory(path: &Path) -> io::Result<()> {
    DirBuilder::new().mode(0o700).create(path)
}

fn if_there(error: io::Error) -> io::Result<()> {
    if error.kind() == ErrorKind::AlreadyExists { Ok(()) } else { Err(error) }
}

fn fill(
    place: BorrowedFd<'_>,
    secrets: &[NamedSecret],
    account: Option<&UserAccount>,
) -> io::Result<()> {
    let owner = account.map(|account| (Uid::from_raw(account.uid), Gid::from_raw(account.gid)));
    for secret in secrets {
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
        let mut file = File::from(openat(place, secret.name(), flags, Mode::RUSR)?);
        file.write_all(secret.value())?;
        if let Some((uid, gid)) = owner {
            fchown(&file, Some(uid), Some(gid))?;
        }
    }
    if let Some((uid, gid)) = owner {
        chownat(place, "", Some(uid), Some(gid), AtFlags::EMPTY_PATH)?;
    }
    Ok(())
}
