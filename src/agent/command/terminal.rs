//! Terminals for commands.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{Uid, fchown};
use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer, openpt, unlockpt};
use rustix::termios::{InputModes, OptionalActions, Winsize, tcgetattr, tcsetattr, tcsetwinsize};

use crate::protocol::WindowSize;

/// Directories of terminfo descriptions, in Debian and elsewhere.
const DESCRIPTIONS: [&str; 4] =
    ["/etc/terminfo", "/lib/terminfo", "/usr/share/terminfo", "/usr/lib/terminfo"];

/// Names that fit nearly every terminal, in order of preference.
const USUAL: [&str; 2] = ["xterm-256color", "xterm"];

/// The two ends of a new terminal, the agent's first. `owner` becomes the owner of the other, so that
/// programs may open it by its name.
///
/// # Errors
/// The kernel's, such as when all terminals are in use.
pub fn open(size: WindowSize, owner: Option<u32>) -> io::Result<(OwnedFd, OwnedFd)> {
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let ours = openpt(flags)?;
    unlockpt(&ours)?;
    // Not by its name: processes in the guest could replace that file.
    let theirs = ioctl_tiocgptpeer(&ours, flags)?;
    if let Some(owner) = owner {
        fchown(&theirs, Some(Uid::from_raw(owner)), None)?;
    }
    let mut modes = tcgetattr(&theirs)?;
    // With IUTF8, backspace deletes a character, not a byte.
    modes.input_modes |= InputModes::IUTF8;
    tcsetattr(&theirs, OptionalActions::Now, &modes)?;
    resize(&ours, size)?;
    Ok((ours, theirs))
}

/// Changes the size of a terminal; its foreground processes get SIGWINCH.
///
/// # Errors
/// The kernel's.
pub fn resize(terminal: impl AsFd, size: WindowSize) -> io::Result<()> {
    let size = Winsize { ws_row: size.rows, ws_col: size.columns, ws_xpixel: 0, ws_ypixel: 0 };
    Ok(tcsetwinsize(terminal, size)?)
}

/// The value of `TERM`: `wanted` if terminfo here describes it, or else a common name that it does.
/// Programs treat an unknown terminal as one without any capabilities.
pub fn term(wanted: &OsStr) -> OsString {
    choose(wanted, |name| {
        DESCRIPTIONS.iter().any(|directory| describes(Path::new(directory), name))
    })
}

fn choose(wanted: &OsStr, known: impl Fn(&OsStr) -> bool) -> OsString {
    if is_name(wanted) && known(wanted) {
        return wanted.to_owned();
    }
    let usual = USUAL.map(OsStr::new);
    match usual.into_iter().find(|name| known(name)) {
        Some(name) => name.to_owned(),
        // There are no descriptions at all, so no program reads any.
        None if is_name(wanted) => wanted.to_owned(),
        None => USUAL[1].into(),
    }
}

/// Whether it can be a terminal's name; a path cannot.
fn is_name(name: &OsStr) -> bool {
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_+.".contains(byte);
    let bytes = name.as_bytes();
    bytes.first().is_some_and(u8::is_ascii_alphanumeric) && bytes.iter().all(plain)
}

/// Descriptions are in subdirectories named after their first letter, or, on file systems that ignore
/// case, after its code.
fn describes(directory: &Path, name: &OsStr) -> bool {
    let Some(&first) = name.as_bytes().first() else { return false };
    let letter = OsString::from(char::from(first).to_string());
    let code = OsString::from(format!("{first:02x}"));
    [letter, code].iter().any(|subdirectory| directory.join(subdirectory).join(name).is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(wanted: &str, known: &[&str]) -> String {
        choose(OsStr::new(wanted), |name| known.iter().any(|&known| name == known))
            .into_string()
            .unwrap()
    }

    #[test]
    fn an_unknown_terminal_gets_a_common_name() {
        let debian = ["dumb", "xterm", "xterm-256color", "tmux-256color"];
        assert_eq!(chosen("tmux-256color", &debian), "tmux-256color");
        assert_eq!(chosen("dumb", &debian), "dumb");
        assert_eq!(chosen("xterm-of-tomorrow", &debian), "xterm-256color");
        assert_eq!(chosen("xterm-of-tomorrow", &["xterm"]), "xterm");
        assert_eq!(chosen("", &debian), "xterm-256color");
    }

    #[test]
    fn without_descriptions_a_valid_name_is_kept() {
        assert_eq!(chosen("xterm-of-tomorrow", &[]), "xterm-of-tomorrow");
        for odd in ["", "../x", "a/b", ".x", "x\u{1b}"] {
            assert_eq!(chosen(odd, &[odd]), "xterm", "{odd:?}");
        }
    }
}
