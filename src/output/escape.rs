//! Escaping text that a guest or a file could have chosen, for terminals and readers.

use std::fmt::Write;

/// Replaces control characters, and characters that reorder or hide text, with visible forms: `\n` for a line
/// feed, else `\u{…}`. Only tabs stay. So text that mayfly did not write never begins a line.
pub fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '\n' => escaped.push_str("\\n"),
            '\t' => escaped.push('\t'),
            character if is_deceptive(character) => {
                let _ = write!(escaped, "{}", character.escape_unicode());
            }
            character => escaped.push(character),
        }
    }
    escaped
}

/// Escapes each line. For text whose line breaks are mayfly's own, or were marked by it.
pub fn escape_lines(text: &str) -> String {
    text.split('\n').map(escape).collect::<Vec<_>>().join("\n")
}

/// The same for JSON, whose value does not change: these characters occur only in strings, where each of them
/// has an escape. JSON requires escapes only for U+0000 to U+001F.
pub fn escape_json(line: &str) -> String {
    let mut escaped = String::with_capacity(line.len());
    for character in line.chars() {
        if is_deceptive(character) {
            for unit in character.encode_utf16(&mut [0; 2]) {
                let _ = write!(escaped, "\\u{unit:04x}");
            }
        } else {
            escaped.push(character);
        }
    }
    escaped
}

/// Control characters, and invisible ones that change how their neighbours are shown: directional embeddings,
/// overrides, isolates and marks (Unicode Bidirectional Algorithm, UAX #9), zero-width characters, line
/// separators, tags.
fn is_deceptive(character: char) -> bool {
    character.is_control()
        || matches!(character,
            '\u{061c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}'
            | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_and_invisible_characters_are_escaped() {
        assert_eq!(escape("a\x1b[2Jb\rc\x07"), "a\\u{1b}[2Jb\\u{d}c\\u{7}");
        assert_eq!(escape("x\u{202e}y\u{9b}z"), "x\\u{202e}y\\u{9b}z");
        let hostile = "\u{9b}31m\u{202e}\u{7f}\u{e0041}";
        let json = escape_json(&serde_json::to_string(hostile).unwrap());
        assert_eq!(json, r#""\u009b31m\u202e\u007f\udb40\udc41""#);
        assert_eq!(serde_json::from_str::<String>(&json).unwrap(), hostile);
        assert_eq!(escape("two\nlines\tand ünïcode 漢字"), "two\\nlines\tand ünïcode 漢字");
        assert_eq!(escape_lines("two\nlines\r\n"), "two\nlines\\u{d}\n");
    }
}
