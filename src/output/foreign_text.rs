//! Escaping a stream of untrusted bytes that arrives in pieces.

use std::fmt::Write;

use super::escape::escape;

/// As [`escape`], for bytes: invalid UTF-8 becomes `\x…`, and carriage returns before a line feed, as serial
/// lines send them, are dropped.
#[derive(Debug, Default)]
pub struct ForeignText {
    /// The beginning of an incomplete character, at most three bytes.
    partial: Vec<u8>,
    /// The number of carriage returns that a line feed may follow, up to [`RETURNS`].
    returns: usize,
}

/// A terminal sends one carriage return before a line feed, and some consoles add another.
const RETURNS: usize = 4;

impl ForeignText {
    /// The text of a piece, without its end if that depends on the next piece.
    pub fn text(&mut self, piece: &[u8]) -> String {
        let mut bytes = std::mem::take(&mut self.partial);
        bytes.extend(piece);
        let mut text = String::new();
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            match str::from_utf8(rest) {
                Ok(valid) => {
                    self.push(&mut text, valid);
                    break;
                }
                Err(error) => {
                    let (valid, other) = rest.split_at(error.valid_up_to());
                    self.push(&mut text, str::from_utf8(valid).unwrap_or_default());
                    let Some(invalid) = error.error_len() else {
                        self.partial = other.to_vec();
                        break;
                    };
                    self.push_bytes(&mut text, &other[..invalid]);
                    rest = &other[invalid..];
                }
            }
        }
        text
    }

    /// The text that was held back, at the end of the stream.
    pub fn rest(&mut self) -> String {
        let mut text = String::new();
        let partial = std::mem::take(&mut self.partial);
        self.push_bytes(&mut text, &partial);
        self.flush_returns(&mut text);
        text
    }

    fn push(&mut self, text: &mut String, valid: &str) {
        for character in valid.chars() {
            match character {
                '\r' if self.returns == RETURNS => text.push_str(&escape("\r")),
                '\r' => self.returns += 1,
                '\n' => {
                    self.returns = 0;
                    text.push('\n');
                }
                other => {
                    self.flush_returns(text);
                    text.push_str(&escape(other.encode_utf8(&mut [0; 4])));
                }
            }
        }
    }

    fn push_bytes(&mut self, text: &mut String, bytes: &[u8]) {
        if !bytes.is_empty() {
            self.flush_returns(text);
        }
        for byte in bytes {
            let _ = write!(text, "\\x{byte:02x}");
        }
    }

    fn flush_returns(&mut self, text: &mut String) {
        for _ in 0..std::mem::take(&mut self.returns) {
            text.push_str(&escape("\r"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(pieces: &[&[u8]]) -> String {
        let mut foreign = ForeignText::default();
        let mut text: String = pieces.iter().map(|piece| foreign.text(piece)).collect();
        text += &foreign.rest();
        text
    }

    #[test]
    fn the_text_does_not_depend_on_the_pieces() {
        let whole = "[ 0.1] \x1b[31mrot\x1b[0m\r\nünïcode 漢字\u{202e}\r\r\nback\rspace\x08\t."
            .as_bytes()
            .iter()
            .copied()
            .chain(*b"\xff\xe6\xbc\xc3(\x80\r\n\r")
            .collect::<Vec<u8>>();
        let expected = "[ 0.1] \\u{1b}[31mrot\\u{1b}[0m\nünïcode 漢字\\u{202e}\nback\\u{d}space\\u{8}\t.\
                        \\xff\\xe6\\xbc\\xc3(\\x80\n\\u{d}";
        assert_eq!(shown(&[&whole]), expected);
        for at in 0..whole.len() {
            let (one, two) = whole.split_at(at);
            assert_eq!(shown(&[one, two]), expected, "cut at {at}");
        }
        let bytes: Vec<&[u8]> = whole.chunks(1).collect();
        assert_eq!(shown(&bytes), expected);
    }

    #[test]
    fn little_is_held_back() {
        let mut foreign = ForeignText::default();
        let text = foreign.text(&[b'\r'; 1000]);
        assert_eq!(text.matches("\\u{d}").count(), 1000 - RETURNS);
        assert_eq!(foreign.text(b"\n"), "\n");
        assert_eq!(foreign.text(b"\xe6\xbc"), "");
        assert_eq!(foreign.rest(), "\\xe6\\xbc");
        assert_eq!(foreign.rest(), "");
    }
}
