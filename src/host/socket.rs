//! Unix sockets.

use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::sys::socket::{self, AddressFamily, SockFlag, SockType, UnixAddr};
use rustix::fs::{FileType, Mode, OFlags};

use super::atomic_file::remove_if_there;
use crate::model::layout::MAX_SOCKET_PATH;
use crate::model::{Refusal, RefusalKind};
use crate::sys::descriptor;

/// Checks that a path fits into a socket address.
///
/// # Errors
/// `Host`: it does not.
pub fn check_length(path: &Path) -> Result<(), Refusal> {
    let length = path.as_os_str().as_bytes().len();
    if length <= MAX_SOCKET_PATH {
        return Ok(());
    }
    let path = path.display();
    let message = format!(
        "the socket path {path} has {length} bytes, more than the {MAX_SOCKET_PATH} that fit"
    );
    let hint = "set MAYFLY_RUNTIME_DIR to a shorter directory";
    Err(Refusal::new(RefusalKind::Host, message).hint(hint))
}

/// Listens at `path` and replaces a socket that an earlier run of the same VM left there. The directory is
/// private, so no other user can have put another file there.
pub fn listen(path: &Path) -> Result<UnixListener> {
    remove_if_there(path)?;
    UnixListener::bind(path).with_context(|| format!("cannot listen at {}", path.display()))
}

/// Connects to `path` without waiting. `None` if the listener's queue is full: connect(2) would then wait as
/// long as a VMM is stopped or hangs, regardless of deadlines and signals.
///
/// # Errors
/// No process listens there.
pub fn connect(path: &Path) -> Result<Option<UnixStream>> {
    let cannot = || format!("cannot connect to {}", path.display());
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let socket = socket::socket(AddressFamily::Unix, SockType::Stream, flags, None)?;
    let address = UnixAddr::new(path).with_context(cannot)?;
    match socket::connect(socket.as_raw_fd(), &address) {
        Ok(()) => {
            let stream = UnixStream::from(socket);
            stream.set_nonblocking(false)?;
            Ok(Some(stream))
        }
        Err(Errno::EAGAIN) => Ok(None),
        Err(errno) => Err(errno).with_context(cannot),
    }
}

/// Connects to a socket of a VMM, which may have replaced it, for example by a link to another user's socket.
/// `None` if no process listens there, or the listener's queue is full.
///
/// # Errors
/// `Host`: it is not a socket of user `owner`.
pub fn connect_to(path: &Path, owner: u32) -> Result<Option<UnixStream>> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let found = match rustix::fs::open(path, flags, Mode::empty()) {
        Ok(found) => found,
        Err(rustix::io::Errno::NOENT) => return Ok(None),
        Err(error) => return Err(error).with_context(|| format!("cannot open {}", path.display())),
    };
    let stat = rustix::fs::fstat(&found)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::Socket || stat.st_uid != owner {
        let message = format!("{} is not the socket of the VM's VMM", path.display());
        return Err(Refusal::new(RefusalKind::Host, message)
            .hint("the guest may have escaped from the VMM; 'mayfly rm' kills and deletes the VM")
            .into());
    }
    // Through the descriptor, so that it is the socket that was checked. This path also fits into the address.
    match connect(&descriptor::path(&found)) {
        Err(error) if error.downcast_ref() == Some(&Errno::ECONNREFUSED) => Ok(None),
        connected => connected,
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use nix::unistd::geteuid;

    use super::*;

    #[test]
    fn links_files_and_sockets_of_other_users_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let (path, me) = (dir.path().join("socket"), geteuid().as_raw());
        assert!(connect_to(&path, me).unwrap().is_none());
        let listener = UnixListener::bind(&path).unwrap();
        assert!(connect_to(&path, me).unwrap().is_some());
        assert!(connect_to(&path, me + 1).is_err());

        let (link, file) = (dir.path().join("link"), dir.path().join("file"));
        symlink(&path, &link).unwrap();
        std::fs::write(&file, "").unwrap();
        assert!(connect_to(&link, me).is_err());
        assert!(connect_to(&file, me).is_err());

        drop(listener);
        assert!(connect_to(&path, me).unwrap().is_none());
    }

    #[test]
    fn a_path_may_be_longer_than_a_socket_address() {
        let dir = tempfile::tempdir().unwrap();
        let deep = dir.path().join("x".repeat(100)).join("y".repeat(100));
        std::fs::create_dir_all(&deep).unwrap();
        let place = std::fs::File::open(&deep).unwrap();
        let _listener = UnixListener::bind(descriptor::path(&place).join("socket")).unwrap();
        assert!(connect_to(&deep.join("socket"), geteuid().as_raw()).unwrap().is_some());
    }
}
