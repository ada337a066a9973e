//! The streams and the status of a command that has ended, compared together.

use std::fmt;
use std::os::unix::process::ExitStatusExt;
use std::process::{ExitStatus, Output};

use serde_json::Value;

/// What mayfly says whenever it starts a VM of the mock backend. `cli::run` has a test for it; other tests do not
/// expect it.
pub const NOT_ISOLATED: &str = "mayfly: mock does not isolate: commands run on this host as you\n";

/// Bytes without a text, wherever it occurs.
pub fn without(text: &str, bytes: &[u8]) -> Vec<u8> {
    let (mut rest, mut kept) = (bytes, Vec::new());
    while let Some(at) = rest.windows(text.len()).position(|window| window == text.as_bytes()) {
        kept.extend(&rest[..at]);
        rest = &rest[at + text.len()..];
    }
    kept.extend(rest);
    kept
}

/// The result of a command.
#[must_use = "compare it: `is`, `prints`, `fails`"]
pub struct Answer {
    pub command: String,
    pub stdout: Vec<u8>,
    pub stderr: Vec<u8>,
    pub status: ExitStatus,
}

impl Answer {
    /// Without [`NOT_ISOLATED`].
    pub fn new(command: String, output: Output) -> Answer {
        let stderr = without(NOT_ISOLATED, &output.stderr);
        Answer { command, stdout: output.stdout, stderr, status: output.status }
    }

    /// The exit code; -N if signal N killed mayfly itself.
    #[must_use]
    pub fn code(&self) -> i32 {
        self.status.code().unwrap_or_else(|| -self.status.signal().unwrap_or(0))
    }

    pub fn stdout(&self) -> &str {
        str::from_utf8(&self.stdout).expect("standard output is text")
    }

    pub fn stderr(&self) -> &str {
        str::from_utf8(&self.stderr).expect("standard error is text")
    }

    /// Compares all three. `[..]` in an expected text matches any text, even none.
    #[track_caller]
    pub fn is(&self, code: i32, stdout: &str, stderr: &str) -> &Answer {
        let same = self.code() == code
            && matches(stdout, &String::from_utf8_lossy(&self.stdout))
            && matches(stderr, &String::from_utf8_lossy(&self.stderr));
        assert!(same, "expected {code}\n--- stdout\n{stdout}\n--- stderr\n{stderr}\ngot {self}");
        self
    }

    /// Checks for success, with this on stdout and nothing on stderr.
    #[track_caller]
    pub fn prints(&self, stdout: &str) -> &Answer {
        self.is(0, stdout, "")
    }

    /// Checks for a failure, with this on stderr and nothing on stdout.
    #[track_caller]
    pub fn fails(&self, code: i32, stderr: &str) -> &Answer {
        self.is(code, "", stderr)
    }

    /// Checks for success and an empty stderr, and returns stdout without its last line end.
    #[track_caller]
    pub fn line(&self) -> String {
        self.is(0, "[..]", "");
        self.stdout().trim_end_matches('\n').to_owned()
    }

    /// The JSON value on stdout of a command that ended with `code` and an empty stderr.
    #[track_caller]
    pub fn json_of(&self, code: i32) -> Value {
        self.is(code, "[..]\n", "");
        assert_eq!(self.stdout().lines().count(), 1, "one value, one line: {self}");
        serde_json::from_str(self.stdout()).unwrap_or_else(|error| panic!("{error}: {self}"))
    }

    /// The JSON value that a successful command printed.
    #[track_caller]
    pub fn json(&self) -> Value {
        self.json_of(0)
    }

    /// The JSON lines on stdout.
    #[track_caller]
    pub fn json_lines(&self) -> Vec<Value> {
        let parse = |line| {
            serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line:?} in {self}"))
        };
        self.stdout().lines().map(parse).collect()
    }

    /// The error of a command that failed with `code` under `--json`: one object on stderr with its four fields in
    /// order, and nothing on stdout.
    #[track_caller]
    pub fn json_error(&self, code: i32) -> Value {
        self.is(
            code,
            "",
            "{\"error\":{\"kind\":[..],\"message\":[..],\"hint\":[..],\"exit_code\":[..]}}\n",
        );
        let whole: Value = serde_json::from_str(self.stderr()).expect("the error is JSON");
        let error = whole["error"].clone();
        assert_eq!(error["exit_code"], code, "{self}");
        assert!(error["kind"].is_string() && error["message"].is_string(), "{self}");
        error
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = |bytes: &[u8]| {
            let shown = bytes.len().min(4000);
            let more = if shown < bytes.len() { "…" } else { "" };
            format!("{}{more}", String::from_utf8_lossy(&bytes[..shown]))
        };
        let (stdout, stderr) = (text(&self.stdout), text(&self.stderr));
        write!(
            f,
            "{} from {}\n--- stdout\n{stdout}\n--- stderr\n{stderr}",
            self.code(),
            self.command
        )
    }
}

/// Whether `text` is like `pattern`, in which `[..]` matches any text.
#[must_use]
pub fn matches(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split("[..]");
    let first = parts.next().expect("a split has one part");
    let Some(mut rest) = text.strip_prefix(first) else { return false };
    let parts: Vec<&str> = parts.collect();
    let Some((last, middle)) = parts.split_last() else { return rest.is_empty() };
    for part in middle {
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
    }
    rest.len() >= last.len() && rest.ends_with(last)
}
