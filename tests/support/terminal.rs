//! Pseudoterminals.

use std::fs::{File, OpenOptions};
use std::os::fd::{FromRawFd, IntoRawFd};
use std::os::unix::fs::OpenOptionsExt;

use nix::fcntl::OFlag;
use nix::libc;
use nix::pty::{grantpt, posix_openpt, ptsname_r, unlockpt};

/// Both ends of a new terminal: the one a person would sit at, and the one programs use.
///
/// `openpty` would leave both open in every program that another test starts meanwhile, and a
/// terminal is closed only when nobody has it open.
pub fn open() -> (File, File) {
    let master = posix_openpt(OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC).unwrap();
    grantpt(&master).unwrap();
    unlockpt(&master).unwrap();
    let name = ptsname_r(&master).unwrap();
    let slave =
        OpenOptions::new().read(true).write(true).custom_flags(libc::O_NOCTTY).open(name).unwrap();
    // SAFETY: the descriptor was just given up by its owner, so this is its only one.
    let master = unsafe { File::from_raw_fd(master.into_raw_fd()) };
    (master, slave)
}
