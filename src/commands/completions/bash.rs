//! Completion for bash, which splits words at `=` and `:`.
//!
//! clap's own script passes the pieces on, so that `--profile=deb` and `box:/et` have no candidates. Here they
//! are joined again, depending on what is between them on the line, and bash receives the part of a
//! candidate after the last `=` or `:`.

use std::ffi::OsString;
use std::io::{Result, Write};
use std::path::Path;

use clap::Command;
use clap_complete::engine;
use clap_complete::env::EnvCompleter;

use super::candidates::is_wanted;
use crate::commands::command_start::command_start;

/// Bash 4.4 or later.
#[derive(Debug)]
pub struct BashCompleter;

/// Passes the words as bash has split them; the word at the cursor only up to the cursor (`$2`), unless it
/// is `=` or `:` itself.
const SCRIPT: &str = r#"_mayfly() {
    local words=("${COMP_WORDS[@]}")
    [[ ${words[COMP_CWORD]} == [=:]* ]] || words[COMP_CWORD]=$2
    mapfile -t COMPREPLY < <(
        COMP_LINE=$COMP_LINE COMP_CWORD=$COMP_CWORD VARIABLE=bash COMPLETER -- "${words[@]}" 2> /dev/null
    )
    # The word is not complete yet.
    if [[ ${COMPREPLY-} == *[=/:] ]]; then compopt -o nospace; fi
}
complete -o bashdefault -o nosort -F _mayfly NAME"#;

impl EnvCompleter for BashCompleter {
    fn name(&self) -> &'static str {
        "bash"
    }

    fn is(&self, name: &str) -> bool {
        name == self.name()
    }

    fn write_registration(
        &self,
        variable: &str,
        name: &str,
        _: &str,
        completer: &str,
        out: &mut dyn Write,
    ) -> Result<()> {
        let script = SCRIPT.replace("VARIABLE", variable).replace("COMPLETER", completer);
        writeln!(out, "{}", script.replace("NAME", name))
    }

    fn write_complete(
        &self,
        tree: &mut Command,
        words: Vec<OsString>,
        directory: Option<&Path>,
        out: &mut dyn Write,
    ) -> Result<()> {
        let variable = |name| std::env::var(name).unwrap_or_default();
        let at = variable("COMP_CWORD").parse().unwrap_or(words.len().saturating_sub(1));
        let line = CompletionLine::join(&words, at, &variable("COMP_LINE"));
        let (current, known) = (line.words.last().cloned().unwrap_or_default(), line.known);
        let index = line.words.len() - 1;
        let words: Vec<OsString> = line.words.into_iter().map(OsString::from).collect();
        if command_start(tree, &words).is_some() {
            return Ok(());
        }
        for candidate in engine::complete(tree, words, index, directory)? {
            let value = candidate.get_value().to_string_lossy();
            // A candidate must continue what was typed. One that contains a line break would look like
            // two to bash.
            let rest = current
                .get(..known)
                .and_then(|known| value.strip_prefix(known))
                .filter(|rest| !rest.contains('\n'));
            if let Some(rest) = rest.filter(|_| is_wanted(&value, &current)) {
                writeln!(out, "{}", quoted(rest, line.quote))?;
            }
        }
        Ok(())
    }
}

/// A command line up to the cursor.
#[derive(Debug, PartialEq, Eq)]
pub struct CompletionLine {
    pub words: Vec<String>,
    /// How much of the last word bash keeps: it replaces only the last piece, after a `=` or `:`.
    pub known: usize,
    /// The open quote that the last piece is in. Bash closes it.
    pub quote: Option<char>,
}

impl CompletionLine {
    /// The words that the user typed. `pieces` are the words that bash has split `line` into, `at` is the
    /// index of the one at the cursor.
    pub fn join(pieces: &[OsString], at: usize, line: &str) -> CompletionLine {
        let mut words: Vec<String> = Vec::new();
        let (mut known, mut quote) = (0, None);
        // The unread part of the line, and whether the last piece was a break.
        let mut rest = line;
        let mut was_break = false;
        for piece in pieces.iter().take(at + 1) {
            let piece = piece.to_string_lossy();
            let begins = rest.find(&*piece);
            quote = before_of(rest, begins).filter(|c| ['"', '\''].contains(c));
            let is_next = if piece.is_empty() {
                rest.is_empty()
            } else {
                begins == Some(quote.map_or(0, char::len_utf8))
            };
            let is_break = !piece.is_empty() && piece.chars().all(|c| c == '=' || c == ':');
            let belongs = (is_break || was_break) && is_next;
            if !belongs {
                words.push(String::new());
            }
            if let Some(word) = words.last_mut() {
                known = word.len();
                word.push_str(&unquoted(&piece));
                if is_break {
                    known = word.len();
                }
            }
            rest = begins.map_or(rest, |at| &rest[at + piece.len()..]);
            was_break = is_break;
        }
        if words.is_empty() {
            words.push(String::new());
        }
        CompletionLine { words, known, quote }
    }
}

/// The character before the one at `at`.
fn before_of(text: &str, at: Option<usize>) -> Option<char> {
    text[..at?].chars().next_back()
}

/// Text, quoted for a bash command line, perhaps inside quotes that are open.
fn quoted(text: &str, quote: Option<char>) -> String {
    match quote {
        Some('\'') => return text.replace('\'', r"'\''"),
        Some(_) => {
            let escaped = |c| ["\"\\$`".contains(c).then_some('\\'), Some(c)].into_iter().flatten();
            // Inside double quotes, nothing else protects it from the history.
            return text.chars().flat_map(escaped).collect::<String>().replace('!', r#""'!'""#);
        }
        None => {}
    }
    let is_plain = |c: char| c.is_alphanumeric() || "_@%+=:,./-".contains(c);
    let quote = |c| [(!is_plain(c)).then_some('\\'), Some(c)].into_iter().flatten();
    text.chars().flat_map(quote).collect()
}

/// A word of a command line without its quoting. The last quotes may be open.
pub fn unquoted(word: &str) -> String {
    let (mut text, mut quotes, mut rest) = (String::new(), None, word.chars().peekable());
    while let Some(c) = rest.next() {
        match (quotes, c) {
            (None, '\'' | '"') => quotes = Some(c),
            (None, '\\') => text.extend(rest.next()),
            (Some(open), _) if c == open => quotes = None,
            (Some('"'), '\\') => {
                text.push(rest.next_if(|next| "\"\\$`".contains(*next)).unwrap_or(c));
            }
            _ => text.push(c),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The words of a line that bash has split into `pieces`, with the cursor at its end.
    fn words(line: &str, pieces: &[&str]) -> Vec<String> {
        let pieces: Vec<OsString> = pieces.iter().map(OsString::from).collect();
        CompletionLine::join(&pieces, pieces.len() - 1, line).words
    }

    #[test]
    fn split_words_are_joined() {
        assert_eq!(words("m rm w", &["m", "rm", "w"]), ["m", "rm", "w"]);
        assert_eq!(words("m rm ", &["m", "rm", ""]), ["m", "rm", ""]);
        assert_eq!(words("m --a=b", &["m", "--a", "=", "b"]), ["m", "--a=b"]);
        assert_eq!(words("m --a=", &["m", "--a", "="]), ["m", "--a="]);
        assert_eq!(words("m --a= ", &["m", "--a", "=", ""]), ["m", "--a=", ""]);
        assert_eq!(
            words("m -e A=b=c x", &["m", "-e", "A", "=", "b", "=", "c", "x"]),
            ["m", "-e", "A=b=c", "x"]
        );
        assert_eq!(words("m cp a: b", &["m", "cp", "a", ":", "b"]), ["m", "cp", "a:", "b"]);
        assert_eq!(words("m cp a:/b", &["m", "cp", "a", ":", "/b"]), ["m", "cp", "a:/b"]);
        assert_eq!(words("m cp x a:", &["m", "cp", "x", "a", ":"]), ["m", "cp", "x", "a:"]);
        assert_eq!(words("m rm 'w", &["m", "rm", "w"]), ["m", "rm", "w"]);
    }

    #[test]
    fn bash_keeps_what_is_before_the_last_piece() {
        let known = |line: &str, pieces: &[&str]| {
            let pieces: Vec<OsString> = pieces.iter().map(OsString::from).collect();
            CompletionLine::join(&pieces, pieces.len() - 1, line).known
        };
        assert_eq!(known("m cp a:/b", &["m", "cp", "a", ":", "/b"]), 2);
        assert_eq!(known("m cp a:", &["m", "cp", "a", ":"]), 2);
        // With another COMP_WORDBREAKS, or an escaped colon.
        assert_eq!(known("m cp a:/b", &["m", "cp", "a:/b"]), 0);
        assert_eq!(known(r"m cp a:/b\:c", &["m", "cp", "a", ":", r"/b\:c"]), 2);
    }

    #[test]
    fn quoting_is_removed() {
        for (word, text) in [
            (r"a\ b", "a b"),
            (r"it\'s", "it's"),
            (r#""a b"c"#, "a bc"),
            ("'a b", "a b"),
            (r#""\"\a""#, r#""\a"#),
            (r"'\'x", r"\x"),
            (r"a\", "a"),
        ] {
            assert_eq!(unquoted(word), text, "{word}");
        }
    }

    #[test]
    fn any_input_from_bash_is_accepted() {
        assert_eq!(words("", &[""]), [""]);
        assert_eq!(words("x", &["elsewhere", ":", "="]), ["elsewhere", ":", "="]);
        assert_eq!(CompletionLine::join(&[], 7, "m rm").words, [""]);
        assert_eq!(words("é:é", &["é", ":", "é"]), ["é:é"]);
    }
}
