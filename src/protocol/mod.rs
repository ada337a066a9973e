//! The protocol between `mayfly` and `mayfly-agent`: its messages, and how both ends synchronise after one of
//! them was killed.
//!
//! **Transport.** One bidirectional byte stream carries one session at a time: a virtio-serial
//! port, a vsock connection or a Unix socket. A virtio-serial port stays open when its client ends. So,
//! unlike on a socket, the agent may not notice the end of a client if the next one comes quickly; the bytes
//! of both are then concatenated, perhaps in the middle of a frame; and bytes that the agent wrote for the
//! first client may reach the second.
//!
//! **Opening.** The host begins with a [`Hello`] of [`Hello::SIZE`] bytes with a random nonce. The agent
//! answers with a [`HelloAck`] that repeats the nonce, then an [`FrameKind::AgentInfo`] frame. The host
//! discards all bytes before that `HelloAck`. These two layouts never change, so that any two versions can
//! report theirs to each other; the host refuses an agent of another version.
//!
//! **Frames.** `len: u32 LE | kind: u8 | tag: u64 LE | payload`. The tag is the session's nonce. `len` counts
//! the payload and is checked against the kind's limit before anything is allocated. No payload but output is larger than
//! [`MAX_PAYLOAD`]; a larger request is sent in parts ([`FrameKind::ExecPart`]).
//!
//! **Resynchronising.** A frame with a wrong tag, an unknown kind or an impossible length ends the session and
//! kills its command. The agent then searches for a `Hello`, beginning with the offending bytes, so that one
//! that follows directly is found. An agent that was left inside a frame takes what comes next for that
//! frame's payload. So a host that takes over a stream that may be in that state, or receives no `HelloAck`,
//! sends [`FLUSH`] zero bytes and another `Hello` with another nonce. Zeros can complete any frame and begin
//! none.
//!
//! **Flow control.** Output has none of its own: an agent that cannot write stops reading the
//! command's pipes, and the command blocks. Input has credit ([`STDIN_WINDOW`]): the agent always
//! reads the stream and never holds more than the window, so a signal is not stuck behind input that
//! the command does not read. The end of input is a frame, never a half-closed stream. Input that is followed by
//! an invalid frame is dropped: a flush may have completed it.
//!
//! **Terminals.** A command with a terminal has a single stream of output, `Stdout`, and no end of input: keys
//! are input like any other, so Ctrl-C travels as a byte and becomes a signal in the guest. When the session
//! ends early, the terminal is hung up; processes that survive the hang-up live on, as when any terminal is
//! closed.
//!
//! **One request at a time.** `Setup`, `Ttl` and `Shutdown` are answered by `Done` or `Error`; `Exec` by
//! `Error`, or by `Started`, output, and exactly one `Exit`. The secrets of an `Exec` are sent before it
//! ([`FrameKind::Secret`]). Control payloads are JSON, data is raw.

mod frame;
mod hello;
mod inbox;
mod message;
pub mod network;
mod outbox;
mod secret;
mod text;

pub use frame::{
    Frame, FrameKind, FrameSide, HEADER, MAX_OUTPUT, MAX_PAYLOAD, ProtocolViolation,
    STREAM_PAYLOAD, frame_header,
};
pub use hello::{Hello, HelloAck, VERSION};
pub use inbox::FrameInbox;
pub use message::{
    AgentFailure, AgentInfo, ExecExit, ExecProgram, ExecRequest, ExecStarted, FailureKind,
    PackRequest, ProcessEnd, SetupRequest, ShutdownRequest, SignalRequest, StdinCredit,
    TerminalRequest, TtlRequest, UnpackInput, UnpackRequest, WindowSize,
};
pub use outbox::FrameOutbox;
pub use secret::{MAX_SECRETS, NamedSecret, ReceivedSecrets, is_secret_name};
pub use text::WireText;

/// The vsock port for mayfly's own requests, on backends with vsock.
pub const VSOCK_CONTROL: u32 = 1024;

/// The vsock port for commands.
pub const VSOCK_SESSION: u32 = 1025;

/// What a guest says on its console if it does not boot because its timer is late.
pub const LATE_TIMER: &str = "the guest's timer is late, because the host was busy";

/// Bytes of standard input that may be in transit or buffered in the agent: twice what it takes from its stream at a
/// time, so that the stream keeps flowing while the command reads and credit travels back.
pub const STDIN_WINDOW: usize = 16 * STREAM_PAYLOAD;

/// The most bytes of one request. Linux accepts 2 MiB of arguments and environment together at the default
/// stack limit; this is half of it.
pub const MAX_REQUEST: usize = 1024 * 1024;

/// The exit code of a copy of a path that does not exist in the VM.
pub const COPY_NOT_FOUND: u8 = 3;

/// How many zero bytes complete any frame that an agent may be inside of.
pub const FLUSH: usize = HEADER + MAX_PAYLOAD;
