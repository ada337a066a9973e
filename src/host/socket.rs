//! Unix sockets at paths of ours.

use std::io::ErrorKind;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::sys::socket::{self, AddressFamily, SockFlag, SockType, UnixAddr};

use crate::model::layout::MAX_SOCKET_PATH;
use crate::model::{Kind, Refusal};

/// Refuses a path that does not fit a socket address.
pub fn check_length(path: &Path) -> Result<(), Refusal> {
    let length = path.as_os_str().as_bytes().len();
    if length <= MAX_SOCKET_PATH {
        return Ok(());
    }
    Err(Refusal::new(
        Kind::Host,
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
