//! Files of variables, in the format of docker and podman.
//!
//! A line is `KEY=VALUE`, with the value taken literally, including quotes; or `KEY` alone for the variable
//! of that name in mayfly's environment, if there is one. Empty lines and lines that begin with `#` are
//! ignored.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use crate::protocol::WireText;

/// The variables of a file; `here` looks up a variable of mayfly's environment.
///
/// # Errors
/// The number of a line and what is wrong with it. The line itself may be confidential.
pub fn parse(
    file: &[u8],
    here: impl Fn(&OsStr) -> Option<OsString>,
) -> Result<Vec<(WireText, WireText)>, (usize, &'static str)> {
    let file = file.strip_prefix(b"\xef\xbb\xbf").unwrap_or(file);
    let mut variables = Vec::new();
    for (number, line) in (1..).zip(file.split(|&byte| byte == b'\n')) {
        let line = line.strip_suffix(b"\r").unwrap_or(line).trim_ascii_start();
        if line.is_empty() || line.starts_with(b"#") {
            continue;
        }
        let equals = line.iter().position(|&byte| byte == b'=');
        let key = &line[..equals.unwrap_or(line.len())];
        let problem = if key.is_empty() {
            "has no name before '='"
        } else if key.iter().any(u8::is_ascii_whitespace) {
            "has a blank in its name"
        } else if line.contains(&0) {
            "contains a null byte"
        } else {
            let value = match equals {
                Some(at) => Some(line[at + 1..].to_owned()),
                None => here(OsStr::from_bytes(key)).map(OsString::into_vec),
            };
            variables.extend(value.map(|value| (WireText(key.to_owned()), WireText(value))));
            continue;
        };
        return Err((number, problem));
    }
    Ok(variables)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Result<Vec<(String, String)>, (usize, &'static str)> {
        let here = |name: &OsStr| (name == "HERE").then(|| "from here".into());
        let shown = |text: WireText| String::from_utf8(text.0).unwrap();
        let variables = parse(text.as_bytes(), here)?;
        Ok(variables.into_iter().map(|(key, value)| (shown(key), shown(value))).collect())
    }

    #[test]
    fn lines_are_read_as_docker_reads_them() {
        let text = "\u{feff}A=1\n\n# B=2\n  C = x\r\nD='q' # no comment\nE=\nHERE\nNOT_HERE\nF=a=b";
        assert_eq!(parsed(text).unwrap_err(), (4, "has a blank in its name"));
        let pairs = parsed(&text.replace("C =", "C=")).unwrap();
        let pairs: Vec<(&str, &str)> =
            pairs.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
        let expected = [
            ("A", "1"),
            ("C", " x"),
            ("D", "'q' # no comment"),
            ("E", ""),
            ("HERE", "from here"),
            ("F", "a=b"),
        ];
        assert_eq!(pairs, expected);
        assert_eq!(parsed(""), Ok(vec![]));
    }

    #[test]
    fn errors_name_the_line() {
        assert_eq!(parsed("A=1\n=2\n"), Err((2, "has no name before '='")));
        assert_eq!(parsed("A=\0"), Err((1, "contains a null byte")));
    }
}
