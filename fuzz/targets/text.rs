//! Text that a guest or a file could have chosen, on its way to a terminal.

use super::allocation::bounded;
use crate::output::{ForeignText, escape, escape_lines};

/// Nothing that moves the cursor, changes colours or reorders text comes through, and the result does not depend on
/// the pieces in which the bytes arrive.
pub fn foreign_text(input: &[u8]) {
    let Some((&step, bytes)) = input.split_first() else { return };
    let shown = |pieces: &mut dyn Iterator<Item = &[u8]>| {
        let mut foreign = ForeignText::default();
        let mut text: String = pieces.map(|piece| foreign.text(piece)).collect();
        text += &foreign.rest();
        text
    };
    bounded((1 << 20) + 64 * input.len(), || {
        let whole = shown(&mut std::iter::once(bytes));
        assert_eq!(whole, shown(&mut bytes.chunks(usize::from(step) + 1)));
        check(&whole);
        if let Ok(text) = str::from_utf8(bytes) {
            check(&escape_lines(text));
            assert!(!escape(text).contains('\n'));
        }
    });
}

fn check(text: &str) {
    let is_harmless = |c: char| {
        matches!(c, '\n' | '\t')
            || !(c.is_control() || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}'))
    };
    assert!(text.chars().all(is_harmless), "{text:?}");
}
