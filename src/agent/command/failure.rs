//! The refusal of a command that is sent to the host.

use crate::protocol::{AgentFailure, FailureKind};

/// Bytes of a message. A frame for an error has 4096, and JSON may escape each byte with six.
const MAX_MESSAGE: usize = 500;

/// A failure whose message fits its frame.
pub fn failure(kind: FailureKind, message: impl Into<String>) -> AgentFailure {
    let mut message: String = message.into();
    message.truncate(message.floor_char_boundary(MAX_MESSAGE));
    AgentFailure { kind, message }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_message_is_cut_at_a_character() {
        let cut = failure(FailureKind::Internal, "\u{e4}".repeat(1000)).message;
        assert_eq!(cut.len(), 500);
    }
}
