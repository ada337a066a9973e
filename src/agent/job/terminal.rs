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

/// Where descriptions of terminals are: ncurses' directories, those of Debian and of others.
const DESCRIPTIONS: [&str; 4] =
    ["/etc/terminfo", "/lib/terminfo", "/usr/share/terminfo", "/usr/lib/terminfo"];

/// What nearly every terminal is much like, the better one first.
const USUAL: [&str; 2] = ["xterm-256color", "xterm"];

/// A new terminal's two ends, the agent's first. The other belongs to `owner`, so that a program which
/// opens it by its name may.
///
/// # Errors
/// Where there are no more terminals.
pub fn open(size: WindowSize, owner: Option<u32>) -> io::Result<(OwnedFd, OwnedFd)> {
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let ours = openpt(flags)?;
    unlockpt(&ours)?;
    // Not by its name: that is the guest's to change.
    let theirs = ioctl_tiocgptpeer(&ours, flags)?;
    if let Some(owner) = owner {
        fchown(&theirs, Some(Uid::from_raw(owner)), None)?;
    }
    let mut modes = tcgetattr(&theirs)?;
    // Backspace deletes a character, not a byte of one.
    modes.input_modes |= InputModes::IUTF8;
    tcsetattr(&theirs, OptionalActions::Now, &modes)?;
    resize(&ours, size)?;
    Ok((ours, theirs))
}

/// Gives a terminal another size; what runs in its foreground gets SIGWINCH.
///
/// # Errors
/// The kernel's.
pub fn resize(terminal: impl AsFd, size: WindowSize) -> io::Result<()> {
    let size = Winsize { ws_row: size.rows, ws_col: size.columns, ws_xpixel: 0, ws_ypixel: 0 };
    Ok(tcsetwinsize(terminal, size)?)
}

/// The value of `TERM` for a terminal of that kind: a name that programs here find something under.
/// Without it they would take the terminal for one that can do nothing.
pub fn kind(wanted: &OsStr) -> OsString {
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
        // Nobody here looks anything up.
        None if is_name(wanted) => wanted.to_owned(),
        None => USUAL[1].into(),
    }
}

/// Whether it can be a terminal's name, and no path.
fn is_name(name: &OsStr) -> bool {
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_+.".contains(byte);
    let bytes = name.as_bytes();
    bytes.first().is_some_and(u8::is_ascii_alphanumeric) && bytes.iter().all(plain)
}

/// Descriptions are in directories by their first letter, or its code where case does not count.
fn describes(directory: &Path, name: &OsStr) -> bool {
    let Some(&first) = name.as_bytes().first() else { return false };
    let letter = OsString::from(char::from(first).to_string());
    let code = OsString::from(format!("{first:02x}"));
    [letter, code].iter().any(|shelf| directory.join(shelf).join(name).is_file())
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
    fn a_terminal_that_is_unknown_here_is_one_of_the_usual_ones() {
        let debian = ["dumb", "xterm", "xterm-256color", "tmux-256color"];
        assert_eq!(chosen("tmux-256color", &debian), "tmux-256color");
        assert_eq!(chosen("dumb", &debian), "dumb");
        assert_eq!(chosen("xterm-of-tomorrow", &debian), "xterm-256color");
        assert_eq!(chosen("xterm-of-tomorrow", &["xterm"]), "xterm");
        assert_eq!(chosen("", &debian), "xterm-256color");
    }

    #[test]
    fn where_nothing_is_known_the_name_stays_if_it_is_one() {
        assert_eq!(chosen("xterm-of-tomorrow", &[]), "xterm-of-tomorrow");
        for odd in ["", "../x", "a/b", ".x", "x\u{1b}"] {
            assert_eq!(chosen(odd, &[odd]), "xterm", "{odd:?}");
        }
    }
}
