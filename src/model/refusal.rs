//! Why mayfly will not do something: a value with a kind, a reason and a remedy.
//!
//! A refusal travels inside an `anyhow::Error` up to `main`, which prints it once. Code that acts on one
//! looks for it with [`Refusal::find`].

use std::fmt;

use serde::{Deserialize, Serialize};

use super::nearest::nearest;

/// The class of a refusal. It decides the exit code, and scripts see its name in `--json` errors.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RefusalKind {
    /// The request itself is malformed or out of range.
    Usage,
    /// No such VM or profile.
    NotFound,
    /// The VM's TTL has passed; it is deleted.
    Expired,
    /// The VM is in a state that does not allow the operation.
    WrongState,
    /// Another VM has that name.
    NameTaken,
    /// The number of VMs, or what they use, would exceed a limit.
    LimitReached,
    /// Another command holds a lock that is needed; trying again may work.
    Busy,
    /// This host cannot do it: it has no KVM or no QEMU, or a boot did not finish.
    Host,
    /// The guest or its agent broke the protocol or went away.
    Agent,
    /// Anything else.
    Failure,
}

impl RefusalKind {
    /// The name used in `--json` errors.
    pub fn name(self) -> &'static str {
        match self {
            RefusalKind::Usage => "usage",
            RefusalKind::NotFound => "not_found",
            RefusalKind::Expired => "expired",
            RefusalKind::WrongState => "wrong_state",
            RefusalKind::NameTaken => "name_taken",
            RefusalKind::LimitReached => "limit_reached",
            RefusalKind::Busy => "busy",
            RefusalKind::Host => "host",
            RefusalKind::Agent => "agent",
            RefusalKind::Failure => "failure",
        }
    }

    /// The exit code of every verb but `exec` and `run`, which return 125 for all of mayfly's own failures
    /// and leave the other numbers to the guest's command.
    pub fn exit_code(self) -> u8 {
        match self {
            RefusalKind::Agent | RefusalKind::Failure => 1,
            RefusalKind::Usage => 2,
            RefusalKind::NotFound | RefusalKind::Expired => 3,
            RefusalKind::WrongState | RefusalKind::NameTaken => 4,
            RefusalKind::LimitReached | RefusalKind::Busy => 5,
            RefusalKind::Host => 6,
        }
    }
}

/// Why something was not done, and what the user can do about it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    pub kind: RefusalKind,
    /// What was refused and why: one sentence, no full stop.
    pub message: String,
    /// What to do now: one line, usually a command.
    pub hint: Option<String>,
    /// What programs and the guest printed before it.
    pub quoted: Vec<QuotedOutput>,
}

/// The last lines that a program or a guest printed, as it printed them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct QuotedOutput {
    /// Such as "the console".
    pub of: String,
    pub lines: Vec<String>,
}

impl Refusal {
    /// A refusal of kind [`RefusalKind::Usage`].
    pub fn usage(message: impl Into<String>) -> Refusal {
        Refusal::new(RefusalKind::Usage, message)
    }

    /// A refusal without a hint; add one with [`Refusal::hint`].
    pub fn new(kind: RefusalKind, message: impl Into<String>) -> Self {
        Refusal { kind, message: message.into(), hint: None, quoted: Vec::new() }
    }

    /// The refusal in an error, whatever context was added to it.
    pub fn find(error: &anyhow::Error) -> Option<&Refusal> {
        error.chain().find_map(|cause| cause.downcast_ref()).or_else(|| error.downcast_ref())
    }

    /// What to print of an error, line by line: its chain of causes, then the output it quotes, whose lines are
    /// marked. Escape each line: all of them can contain text of a guest or a file, line breaks included.
    pub fn lines(error: &anyhow::Error) -> Vec<String> {
        let mut lines = vec![without_numbers(&format!("{error:#}"))];
        for quoted in Refusal::find(error).iter().flat_map(|refusal| &refusal.quoted) {
            lines.push(format!("  last output of {}:", quoted.of));
            lines.extend(quoted.lines.iter().map(|line| format!("  | {line}")));
        }
        lines
    }

    /// Whether an error is a refusal of this kind.
    pub fn is_of_kind(error: &anyhow::Error, kind: RefusalKind) -> bool {
        Refusal::find(error).is_some_and(|refusal| refusal.kind == kind)
    }

    /// This refusal with a remedy.
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// This refusal of a `typed` name that does not exist, with the nearest of the `known` names and a remedy.
    pub fn hint_at_nearest<'a>(
        self,
        typed: &str,
        known: impl IntoIterator<Item = &'a str>,
        hint: impl fmt::Display,
    ) -> Self {
        match nearest(typed, known) {
            Some(name) => self.hint(format!("did you mean {name:?}? {hint}")),
            None => self.hint(hint.to_string()),
        }
    }
}

/// A text without what Rust's library adds to an error of the operating system: " (os error 2)".
fn without_numbers(text: &str) -> String {
    let mut pieces = text.split(" (os error ");
    let mut plain = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        match piece.split_once(')') {
            Some((number, rest)) if number.parse::<u32>().is_ok() => plain.push_str(rest),
            _ => {
                plain.push_str(" (os error ");
                plain.push_str(piece);
            }
        }
    }
    plain
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Refusal {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_errors_are_not_shown() {
        let error = std::io::Error::from_raw_os_error(2);
        assert_eq!(without_numbers(&format!("a: {error}: b")), "a: No such file or directory: b");
        for text in ["", "a (os error x)", "a (os error 2", "a (b)"] {
            assert_eq!(without_numbers(text), text);
        }
    }
}
