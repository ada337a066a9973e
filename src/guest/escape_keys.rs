//! The keys `~.`, `~^Z` and `~?`, typed at the beginning of a line, which are for mayfly and not for the guest.
//!
//! As with ssh, they are the only way out of a guest that does not respond, because the terminal is raw. A
//! tilde at the beginning of a line is held back until the next key.

/// What keys for mayfly ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum KeyAction {
    /// `~.`
    HangUp,
    /// `~` and Ctrl-Z: return to the host's shell until it continues mayfly.
    Suspend,
    /// `~?`: list them.
    Help,
}

/// What `~?` shows on the raw terminal.
pub(super) const HELP: &[u8] = b"~?\r\n\
    At the beginning of a line:\r\n\
    \x20 ~.   hangs up\r\n\
    \x20 ~^Z  returns to your own shell until 'fg'\r\n\
    \x20 ~~   sends one tilde\r\n\
    \x20 ~?   shows this list\r\n";

/// What the last key was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum EscapeKeys {
    LineStart,
    Tilde,
    Elsewhere,
}

const CTRL_Z: u8 = 0x1a;

impl EscapeKeys {
    /// The state before the first key.
    pub fn new() -> EscapeKeys {
        EscapeKeys::LineStart
    }

    /// Appends the keys for the guest to `passed`: at most one byte more than `typed` has. Stops at the first
    /// action and drops the keys after it.
    pub fn pass(&mut self, typed: &[u8], passed: &mut Vec<u8>) -> Option<KeyAction> {
        for &key in typed {
            if *self == EscapeKeys::Tilde {
                *self = EscapeKeys::Elsewhere;
                match key {
                    b'.' => return Some(KeyAction::HangUp),
                    CTRL_Z => {
                        *self = EscapeKeys::LineStart;
                        return Some(KeyAction::Suspend);
                    }
                    b'?' => {
                        *self = EscapeKeys::LineStart;
                        return Some(KeyAction::Help);
                    }
                    // `~~` sends one tilde, for a mayfly or an ssh in the guest.
                    b'~' => {}
                    _ => passed.push(b'~'),
                }
            } else if *self == EscapeKeys::LineStart && key == b'~' {
                *self = EscapeKeys::Tilde;
                continue;
            }
            *self = if matches!(key, b'\r' | b'\n') {
                EscapeKeys::LineStart
            } else {
                EscapeKeys::Elsewhere
            };
            passed.push(key);
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is passed on of pieces typed one after the other, and the last action.
    fn typed(pieces: &[&str]) -> (String, Option<KeyAction>) {
        let (mut keys, mut passed) = (EscapeKeys::new(), Vec::new());
        let mut action = None;
        for piece in pieces {
            let before = passed.len();
            action = keys.pass(piece.as_bytes(), &mut passed);
            assert!(passed.len() <= before + piece.len() + 1);
        }
        (String::from_utf8(passed).unwrap(), action)
    }

    #[test]
    fn other_keys_are_passed_on_unchanged() {
        for text in
            ["ls -l\r", "ls ~/x\r", "~/bin/x\r", "a~.\r", "cd ~\r\r", "\u{1b}[A~.", "~ .", "\u{3}"]
        {
            assert_eq!(typed(&[text]), (text.to_owned(), None), "{text:?}");
            let letters: Vec<String> = text.chars().map(String::from).collect();
            let letters: Vec<&str> = letters.iter().map(String::as_str).collect();
            assert_eq!(typed(&letters), (text.to_owned(), None), "{text:?} key by key");
        }
    }

    #[test]
    fn a_tilde_at_the_beginning_of_a_line_starts_an_escape() {
        assert_eq!(typed(&["~."]), (String::new(), Some(KeyAction::HangUp)));
        assert_eq!(typed(&["ls\r", "~", ".rest"]), ("ls\r".into(), Some(KeyAction::HangUp)));
        assert_eq!(typed(&["ls\n~\u{1a}"]), ("ls\n".into(), Some(KeyAction::Suspend)));
        assert_eq!(typed(&["~\u{1a}", "~."]), (String::new(), Some(KeyAction::HangUp)));
        assert_eq!(typed(&["~?", "~."]), (String::new(), Some(KeyAction::HangUp)));
        assert_eq!(typed(&["ls\r~?"]), ("ls\r".into(), Some(KeyAction::Help)));
        assert_eq!(typed(&["~~."]), ("~.".into(), None));
        assert_eq!(typed(&["~\r", "~."]), ("~\r".into(), Some(KeyAction::HangUp)));
    }
}
