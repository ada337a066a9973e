//! The host's end of the agent protocol.
//!
//! [`AgentSession::open`] finds the agent at the other end of a
//! [`Channel`](crate::host::agent_channel::AgentChannel), [`AgentSession::setup`], [`AgentSession::exec`] and
//! [`AgentSession::shutdown`] ask it for something. Everything an agent says is checked, nothing is
//! waited for without a deadline or a way to interrupt it, and no buffer grows with what a guest
//! sends. What breaks the protocol is a [`Refusal`](crate::model::Refusal) of kind `Agent` at the
//! root of the error.
//!
//! A [`AgentSession`] is one client's use of a line. Dropping it ends it, and the agent then kills
//! whatever the session's command left running.

mod agent_link;
mod escape_keys;
mod exec;
mod outcome;
mod output;
mod session;
mod stdin;
mod stream_pump;
mod tty;

pub use exec::{ExecIo, StdinSource};
pub use outcome::{CapturedOutput, CommandExit, CommandOutcome};
pub use output::OutputSink;
pub use session::AgentSession;
