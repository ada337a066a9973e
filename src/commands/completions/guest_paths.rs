//! Candidates that are paths in a VM.

use std::sync::OnceLock;

use crate::lifecycle::{VmManager, list_paths};
use crate::model::VmRef;
use crate::output::escape;
use crate::protocol::WireText;

/// The most candidates. A longer list is not shown, because a part of it could have a prefix in common that the
/// whole does not have.
const MOST: usize = 5000;

/// The user on the line that is being completed.
static USER: OnceLock<String> = OnceLock::new();

/// Sets the user who looks for the paths; to be called at most once.
pub fn set_user(user: String) {
    let _ = USER.set(user);
}

/// The paths in a VM that begin with what was typed.
pub fn guest_paths(manager: VmManager, vm: VmRef, typed: WireText) -> Vec<String> {
    let Ok(path) = str::from_utf8(typed.as_bytes()).map(str::to_owned) else { return Vec::new() };
    let listed = list_paths(manager, vm, USER.get().cloned(), typed);
    listed.map(|listed| sound_paths(&path, &listed)).unwrap_or_default()
}

/// The paths in a VM's answer that could be files in the typed directory, and that a shell or terminal cannot mistake
/// for something else.
fn sound_paths(typed: &str, listed: &[u8]) -> Vec<String> {
    let directory = typed.rfind('/').map_or(0, |at| at + 1);
    let is_sound = |path: &str| {
        let name = path.get(directory..).map(|name| name.strip_suffix('/').unwrap_or(name));
        let is_name =
            name.is_some_and(|name| !["", ".", ".."].contains(&name) && !name.contains('/'));
        path.starts_with(typed) && is_name && !path.contains('\t') && escape(path) == path
    };
    let paths = listed.split(|&byte| byte == 0).filter_map(|path| str::from_utf8(path).ok());
    let paths: Vec<String> =
        paths.filter(|path| is_sound(path)).take(MOST + 1).map(str::to_owned).collect();
    if paths.len() > MOST { Vec::new() } else { paths }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_in_the_typed_directory_are_offered() {
        let listed = b"/etc/a\0/etc/a b'\"\\$:=\0/etc/ad/\0/etc/\xc3\xa9\0";
        assert_eq!(sound_paths("/etc/a", listed), ["/etc/a", "/etc/a b'\"\\$:=", "/etc/ad/"]);
        assert_eq!(sound_paths("/etc/", listed).len(), 4);
        assert_eq!(sound_paths("", b"home/\0.\0../\0"), ["home/"]);
    }

    #[test]
    fn whatever_else_a_guest_sends_is_left_out() {
        let listed =
            b"\0/etc/\0/etc/.\0/etc/../\0/etc/a/b\0/usr\0/etc//\0/etc/\xff\0/etc/a\nb\0/etc/a\tb\0\
            /etc/\x1b[2J\0/etc/\xe2\x80\xaegpj\0rubbish\0";
        assert_eq!(sound_paths("/etc/", listed), [] as [&str; 0]);
        let mut many = b"x\0".repeat(MOST);
        assert_eq!(sound_paths("", &many).len(), MOST);
        many.extend(b"x\0");
        assert_eq!(sound_paths("", &many), [] as [&str; 0]);
    }
}
