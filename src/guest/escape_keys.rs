//! Keys on their way to a guest, and the few that are for us.
//!
//! At the beginning of a line, a tilde may be the first of two keys that leave a guest which answers
//! no more, as with ssh: a raw terminal has no other way out. It is held back until the second shows
//! what it was.

/// Keys that are for us and not for the guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum KeyAction {
    /// `~.`: hang up.
    HangUp,
    /// `~` and Ctrl-Z: back to the shell of this side for a while.
    Suspend,
}

/// Where in the typed text we are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum EscapeKeys {
    LineStart,
    Tilde,
    Elsewhere,
}

const CTRL_Z: u8 = 0x1a;

impl EscapeKeys {
    /// Before the first key.
    pub fn new() -> EscapeKeys {
        EscapeKeys::LineStart
    }

    /// Puts what is for the guest of `typed` into `passed`, at most one byte more than there are, and
    /// stops at the first wish: what follows it was typed for nobody.
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
                    // Twice is once, for a mayfly in the guest, or an ssh.
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

    /// What passes of pieces typed one after the other, and the wish that ended it.
    fn typed(pieces: &[&str]) -> (String, Option<KeyAction>) {
        let (mut keys, mut passed) = (EscapeKeys::new(), Vec::new());
        let mut wish = None;
        for piece in pieces {
            let before = passed.len();
            wish = keys.pass(piece.as_bytes(), &mut passed);
            assert!(passed.len() <= before + piece.len() + 1);
        }
        (String::from_utf8(passed).unwrap(), wish)
    }

    #[test]
    fn what_is_for_the_guest_passes_as_it_is() {
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
    fn a_tilde_at_the_beginning_of_a_line_can_lead_out() {
        assert_eq!(typed(&["~."]), (String::new(), Some(KeyAction::HangUp)));
        assert_eq!(typed(&["ls\r", "~", ".rest"]), ("ls\r".into(), Some(KeyAction::HangUp)));
        assert_eq!(typed(&["ls\n~\u{1a}"]), ("ls\n".into(), Some(KeyAction::Suspend)));
        assert_eq!(typed(&["~\u{1a}", "~."]), (String::new(), Some(KeyAction::HangUp)));
        assert_eq!(typed(&["~~."]), ("~.".into(), None));
        assert_eq!(typed(&["~\r", "~."]), ("~\r".into(), Some(KeyAction::HangUp)));
    }
}
