//! The wire between `mayfly` and `mayfly-agent`: what is on it, and how either end finds its feet
//! after the other was killed.
//!
//! **Transport.** One bidirectional byte stream carries one session at a time: a virtio-serial
//! port, a vsock connection or a Unix socket. A virtio-serial port outlives its clients, so three
//! things happen there that never happen on a socket: the end of one client can go unnoticed when
//! the next one comes quickly; bytes of both are then glued together, in the middle of a frame if
//! need be; and bytes the agent wrote for the first client reach the second.
//!
//! **Opening.** The host speaks first: a [`Hello`] of [`Hello::SIZE`] bytes with a random nonce.
//! The agent answers with an [`HelloAck`] that repeats it, then an [`FrameKind::AgentInfo`] frame. The host
//! throws away whatever precedes the `HelloAck` it waits for. These two layouts never change, so that
//! any two versions can tell each other theirs; a difference is refused by the host.
//!
//! **Frames.** `len: u32 LE | kind: u8 | tag: u64 LE | payload`. The tag is the session's nonce.
//! `len` counts the payload and is checked against the kind's own limit before anything is
//! allocated; no frame is larger than [`MAX_PAYLOAD`], and a request that needs more is sent in
//! parts ([`FrameKind::ExecPart`]).
//!
//! **Losing and finding the thread.** A frame with a wrong tag, an unknown kind or an impossible
//! length ends the session and kills its command. The agent then looks for a `Hello` from the
//! offending bytes on, so one that follows directly is found. An agent that was left inside a frame
//! swallows what comes next as that frame's payload; therefore a host that takes over a line that
//! may be in that state, or gets no `HelloAck`, sends [`FLUSH`] zero bytes and another `Hello` with
//! another nonce. Zeros can complete any frame and begin none.
//!
//! **Flow control.** Output has none of its own: an agent that cannot write stops reading the
//! command's pipes, and the command blocks. Input has credit ([`STDIN_WINDOW`]): the agent always
//! reads the line and never holds more than the window, so a signal is not stuck behind input that
//! the command does not read. The end of input is a frame, never a half-closed stream.
//!
//! **Terminals.** A command with one has a single stream of output, `Stdout`, and no end of input:
//! keys are input like any other, so Ctrl-C travels as a byte and becomes a signal in the guest.
//! When its session breaks off, the terminal is hung up, and what the command has put beyond the
//! reach of that lives on, as under any terminal that is closed.
//!
//! **One request at a time.** `SetupRequest`, `TtlRequest` and `ShutdownRequest` are answered by `Done` or `Error`; `ExecRequest` by
//! `Error`, or by `ExecStarted`, output, and exactly one `ExecExit`. What belongs to an `ExecRequest` and must not be
//! in it, its secrets, precedes it ([`FrameKind::Secret`]). Control payloads are JSON, data is raw.

mod frame;
mod hello;
mod inbox;
mod message;
mod outbox;
mod secret;
mod text;

pub use frame::{
    Frame, FrameKind, FrameSide, HEADER, MAX_PAYLOAD, ProtocolViolation, STREAM_PAYLOAD,
};
pub use hello::{Hello, HelloAck};
pub use inbox::FrameInbox;
pub use message::{
    AgentFailure, AgentInfo, ExecExit, ExecProgram, ExecRequest, ExecStarted, FailureKind,
    PackRequest, ProcessEnd, SetupRequest, ShutdownRequest, SignalRequest, StdinCredit,
    TerminalRequest, TtlRequest, UnpackInput, UnpackRequest, WindowSize,
};
pub use outbox::FrameOutbox;
pub use secret::{MAX_SECRETS, NamedSecret, ReceivedSecrets, is_secret_name};
pub use text::WireText;

/// The protocol's version. Any change to the kinds, their payloads or their meaning raises it.
pub const VERSION: u32 = 3;

/// Where an agent listens for mayfly's own requests, on backends that reach it by vsock.
pub const VSOCK_CONTROL: u32 = 1024;

/// Where it listens for commands.
pub const VSOCK_SESSION: u32 = 1025;

/// Bytes of standard input that may be on their way or waiting in the agent: four full frames, so
/// that a pipe keeps flowing while credit travels back.
pub const STDIN_WINDOW: usize = 4 * STREAM_PAYLOAD;

/// The most bytes of one request that is sent in parts. Linux accepts 2 MiB of arguments and
/// environment together at the default stack limit; what is beyond half of that belongs in a file
/// or on standard input.
pub const MAX_REQUEST: usize = 1024 * 1024;

/// How many zero bytes bring an agent out of any frame it may be in the middle of.
pub const FLUSH: usize = HEADER + MAX_PAYLOAD;
