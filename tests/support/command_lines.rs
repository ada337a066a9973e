//! Command lines in documentation, checked with the parser.

use std::ffi::OsString;

/// The words of the first `mayfly` command in a line, without quotes, up to the first shell operator or two spaces,
/// which separate a command from its description. `None` if the line has none.
pub fn words(line: &str) -> Option<Vec<String>> {
    let starts_word = |at: &usize| line[..*at].ends_with([' ', '(', '$', '/', '=']) || *at == 0;
    let at = line.match_indices("mayfly ").map(|(at, _)| at).find(starts_word)?;
    let mut words = vec![String::new()];
    let mut quote = None;
    let mut last = ' ';
    for c in line[at..].chars() {
        match (c, quote) {
            (c, Some(open)) if c == open => quote = None,
            ('\'' | '"', None) => quote = Some(c),
            (' ', None) if last == ' ' => break,
            (' ', None) => words.push(String::new()),
            ('>', None) => {
                // The number of a descriptor, as in `2> file`.
                words.pop_if(|word| word.bytes().all(|byte| byte.is_ascii_digit()));
                break;
            }
            ('|' | ')' | '&' | ';', None) => break,
            (c, _) => words.last_mut().expect("never empty").push(c),
        }
        last = c;
    }
    words.retain(|word| !word.is_empty());
    Some(words)
}

/// Panics unless mayfly takes this command line.
pub fn check(words: &[String]) {
    let typed: Vec<OsString> = words.iter().map(OsString::from).collect();
    if let Err(error) = mayfly::cli::parse(&typed) {
        let answered =
            [clap::error::ErrorKind::DisplayHelp, clap::error::ErrorKind::DisplayVersion];
        assert!(answered.contains(&error.kind()), "{words:?}: {error}");
    }
}
