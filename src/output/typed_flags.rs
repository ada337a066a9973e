//! Command lines in hints. With the flags that were typed, they find the same VMs.

use std::ffi::OsStr;
use std::sync::OnceLock;

use super::shell_word::shell_word;

/// The value of `--state-dir`, quoted for a shell. It is the same for the whole process, and everything that prints
/// needs it.
static STATE_DIR: OnceLock<String> = OnceLock::new();

/// Verbs that look for VMs in the state directory.
const VERBS: [&str; 16] = [
    "run", "create", "start", "exec", "shell", "cp", "stop", "rm", "logs", "wait", "extend",
    "rename", "status", "inspect", "reap", "template",
];

/// Remembers the value of `--state-dir`, if it was typed and not set by a variable or a file.
pub fn remember_state_dir(typed: &OsStr) {
    STATE_DIR.get_or_init(|| shell_word(&typed.to_string_lossy()));
}

/// A hint whose command lines have the flags that were typed.
pub(super) fn complete(hint: &str) -> String {
    STATE_DIR.get().map_or_else(|| hint.to_owned(), |directory| with(hint, directory))
}

fn with(hint: &str, directory: &str) -> String {
    VERBS.iter().fold(hint.to_owned(), |hint, verb| {
        let with = |before: &str, hint: String| {
            let line = format!("{before}mayfly {verb}");
            hint.replace(&line, &format!("{before}mayfly --state-dir {directory} {verb}"))
        };
        with(": ", with("'", hint))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn command_lines_that_need_the_directory_get_it() {
        for (hint, expected) in [
            ("'mayfly status' lists VMs", "'mayfly --state-dir d status' lists VMs"),
            ("delete it: mayfly rm web", "delete it: mayfly --state-dir d rm web"),
            ("'mayfly doctor' checks this host", "'mayfly doctor' checks this host"),
            ("mayfly status", "mayfly status"),
        ] {
            assert_eq!(with(hint, "d"), expected);
        }
    }
}
