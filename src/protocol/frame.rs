//! Frames: their headers, kinds and size limits.

use std::fmt;

use serde::de::DeserializeOwned;

/// Bytes before the payload: length, kind, tag.
pub const HEADER: usize = 4 + 1 + 8;

/// The largest payload of any frame but output: the default capacity of a Linux pipe, so that one read becomes one frame.
pub const MAX_PAYLOAD: usize = 64 * 1024;

/// The largest payload of output, all that a command's pipe can hold: the fewer frames there are, the less an emulated
/// guest has to do. The other direction has smaller frames, because what a killed client left unfinished is filled up
/// with zeros.
pub const MAX_OUTPUT: usize = 256 * 1024;

/// How many bytes of a stream one frame carries: with the header, exactly 64 KiB. The virtio console moves
/// bytes in buffers of 32 KiB out of a guest and of 4 KiB into it, and each costs the same however full it is;
/// 64 KiB of payload and a header would need one more.
pub const STREAM_PAYLOAD: usize = MAX_PAYLOAD - HEADER;

/// Who sends a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FrameSide {
    Host,
    Agent,
}

macro_rules! kinds {
    ($($(#[$doc:meta])* $name:ident = $code:literal, $side:ident, $range:expr;)*) => {
        /// What a frame contains.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        #[repr(u8)]
        pub enum FrameKind { $($(#[$doc])* $name = $code,)* }

        impl FrameKind {
            /// Every kind.
            pub const ALL: &[FrameKind] = &[$(FrameKind::$name),*];

            /// The kind with this code.
            pub fn from_code(code: u8) -> Option<FrameKind> {
                match code { $($code => Some(FrameKind::$name),)* _ => None }
            }

            /// Which side sends it.
            pub fn side(self) -> FrameSide {
                match self { $(FrameKind::$name => FrameSide::$side,)* }
            }

            /// The permitted lengths of its payload.
            pub fn lengths(self) -> std::ops::RangeInclusive<usize> {
                match self { $(FrameKind::$name => $range,)* }
            }
        }
    };
}

// No kind has the code 0: zero bytes must not be frames.
kinds! {
    /// [`SetupRequest`](super::SetupRequest), answered by `Done` or `Error`.
    Setup = 1, Host, 2..=8192;
    /// A piece of a request too long for one frame; an `Exec` with the last piece follows.
    ExecPart = 2, Host, 1..=MAX_PAYLOAD;
    /// [`ExecRequest`](super::ExecRequest), or the rest of it after `ExecPart`s.
    Exec = 3, Host, 1..=MAX_PAYLOAD;
    /// Bytes for the command's standard input, within the credit.
    Stdin = 4, Host, 1..=MAX_PAYLOAD;
    /// The end of standard input.
    StdinEof = 5, Host, 0..=0;
    /// [`SignalRequest`](super::SignalRequest) for the command's process group.
    Signal = 6, Host, 2..=64;
    /// The new [`WindowSize`](super::WindowSize) of the command's terminal.
    WindowSize = 7, Host, 2..=64;
    /// [`ShutdownRequest`](super::ShutdownRequest), answered by `Done` when it begins.
    Shutdown = 8, Host, 2..=64;
    /// [`TtlRequest`](super::TtlRequest), answered by `Done` or `Error`.
    Ttl = 9, Host, 2..=64;
    /// A piece of a [`NamedSecret`](super::NamedSecret) for the `Exec` that follows.
    Secret = 10, Host, 3..=MAX_PAYLOAD;
    /// [`AgentInfo`](super::AgentInfo), right after the `HelloAck`.
    AgentInfo = 65, Agent, 2..=4096;
    /// The request was carried out.
    Done = 66, Agent, 0..=0;
    /// [`ExecStarted`](super::ExecStarted): the command runs.
    Started = 67, Agent, 2..=64;
    /// Bytes from the command's standard output.
    Stdout = 68, Agent, 1..=MAX_OUTPUT;
    /// Bytes from the command's standard error.
    Stderr = 69, Agent, 1..=MAX_OUTPUT;
    /// [`StdinCredit`](super::StdinCredit) for more standard input.
    StdinCredit = 70, Agent, 2..=64;
    /// [`ExecExit`](super::ExecExit): the command ended and all its output was sent.
    Exit = 71, Agent, 2..=256;
    /// [`AgentFailure`](super::AgentFailure): the request was not carried out.
    Error = 72, Agent, 2..=4096;
}

/// A received frame, borrowed from the buffer it arrived in.
#[derive(Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    pub kind: FrameKind,
    pub payload: &'a [u8],
}

/// How the other side violated the protocol.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProtocolViolation {
    /// No kind has this code.
    UnknownKind(u8),
    /// The kind belongs to the other direction.
    WrongSide(FrameKind),
    /// The length is outside what the kind allows.
    Length(FrameKind, u32),
    /// The frame belongs to another session.
    WrongTag(FrameKind),
    /// The payload is not valid for the kind.
    Malformed(FrameKind, String),
    /// A frame of this kind is not expected now.
    Unexpected(FrameKind),
}

/// A checked header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FrameHeader {
    pub kind: FrameKind,
    pub length: usize,
}

impl FrameHeader {
    pub(super) fn encode(kind: FrameKind, tag: u64, length: usize) -> [u8; HEADER] {
        let length = u32::try_from(length).expect("a payload is at most MAX_PAYLOAD");
        let mut bytes = [0; HEADER];
        bytes[..4].copy_from_slice(&length.to_le_bytes());
        bytes[4] = kind as u8;
        bytes[5..].copy_from_slice(&tag.to_le_bytes());
        bytes
    }

    pub(super) fn decode(
        bytes: &[u8; HEADER],
        from: FrameSide,
        tag: u64,
    ) -> Result<FrameHeader, ProtocolViolation> {
        let kind =
            FrameKind::from_code(bytes[4]).ok_or(ProtocolViolation::UnknownKind(bytes[4]))?;
        if kind.side() != from {
            return Err(ProtocolViolation::WrongSide(kind));
        }
        let length = u32::from_le_bytes(bytes[..4].try_into().expect("four bytes"));
        if !kind.lengths().contains(&(length as usize)) {
            return Err(ProtocolViolation::Length(kind, length));
        }
        if u64::from_le_bytes(bytes[5..].try_into().expect("eight bytes")) != tag {
            return Err(ProtocolViolation::WrongTag(kind));
        }
        Ok(FrameHeader { kind, length: length as usize })
    }
}

/// What precedes a frame's payload of `length` bytes.
pub fn frame_header(kind: FrameKind, tag: u64, length: usize) -> [u8; HEADER] {
    FrameHeader::encode(kind, tag, length)
}

impl Frame<'_> {
    /// Parses the JSON payload.
    ///
    /// # Errors
    /// [`ProtocolViolation::Malformed`].
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, ProtocolViolation> {
        serde_json::from_slice(self.payload)
            .map_err(|error| ProtocolViolation::Malformed(self.kind, error.to_string()))
    }
}

impl fmt::Display for ProtocolViolation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ProtocolViolation::UnknownKind(code) => write!(f, "a frame of unknown kind {code}"),
            ProtocolViolation::WrongSide(kind) => write!(f, "a {kind:?} frame from the wrong side"),
            ProtocolViolation::Length(kind, length) => {
                write!(f, "a {kind:?} frame that claims {length} bytes")
            }
            ProtocolViolation::WrongTag(kind) => write!(f, "a {kind:?} frame of another session"),
            ProtocolViolation::Malformed(kind, why) => {
                write!(f, "a malformed {kind:?} frame: {why}")
            }
            ProtocolViolation::Unexpected(kind) => {
                write!(f, "an unexpected {kind:?} frame")
            }
        }
    }
}

impl std::error::Error for ProtocolViolation {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_and_codes_agree_and_zero_is_not_a_kind() {
        for &kind in FrameKind::ALL {
            assert_eq!(FrameKind::from_code(kind as u8), Some(kind));
            assert!(*kind.lengths().end() <= MAX_OUTPUT);
        }
        assert_eq!(FrameKind::from_code(0), None);
        assert!(FrameHeader::decode(&[0; HEADER], FrameSide::Host, 0).is_err());
    }
}
