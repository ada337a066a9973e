//! Unix sockets at paths of ours.

use std::io::ErrorKind;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::sys::socket::{self, AddressFamily, SockFlag, SockType, UnixAddr};
use rustix::fs::{FileType, Mode, OFlags};

use crate::model::layout::MAX_SOCKET_PATH;
use crate::model::{Refusal, RefusalKind};
use crate::sys::descriptor;

/// Refuses a path that does not fit a socket address.
pub fn check_length(path: &Path) -> Result<(), Refusal> {
    let length = path.as_os_str().as_bytes().len();
    if length <= MAX_SOCKET_PATH {
        return Ok(());
    }
    Err(Refusal::new(
        RefusalKind::Host,
        format!(
            "the socket path {} has {length} bytes, more than the {MAX_SOCKET_PATH} that fit",
            path.display()
        ),
    )
    .hint("set MAYFLY_RUNTIME_DIR to a shorter directory"))
}

/// Listens at `path`, replacing a socket that an earlier run of the same VM left. The directory is
/// ours alone, so nobody can put anything else there.
pub fn listen(path: &Path) -> Result<UnixListener> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            return Err(error).with_context(|| format!("cannot remove {}", path.display()));
        }
        _ => {}
    }
    UnixListener::bind(path).with_context(|| format!("cannot listen at {}", path.display()))
}

/// Connects to `path`, without waiting. `None` if as many clients wait there as the listener allows:
/// a plain `connect` would then wait for as long as a VMM is stopped or hangs, beyond the reach of
/// deadlines and signals.
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

/// Connects to a socket that another program made, in a directory where it may since have put
/// anything else: a link to a stranger's socket, say. `None` if nobody listens there, or no more than
/// already do.
///
/// Errors: `Host` if it is not a socket of user `owner`.
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
            .hint("its guest may have broken out of it; 'mayfly rm' ends and deletes the VM")
            .into());
    }
    // Through the descriptor, so that it is what was looked at. Such a path also fits the address.
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
    fn only_the_socket_itself_will_do() {
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
    fn a_long_path_is_no_hindrance() {
        let dir = tempfile::tempdir().unwrap();
        let deep = dir.path().join("x".repeat(100)).join("y".repeat(100));
        std::fs::create_dir_all(&deep).unwrap();
        let place = std::fs::File::open(&deep).unwrap();
        let _listener = UnixListener::bind(descriptor::path(&place).join("socket")).unwrap();
        assert!(connect_to(&deep.join("socket"), geteuid().as_raw()).unwrap().is_some());
    }
}
