//! The host's side of the agent protocol.
//!
//! [`AgentSession::open`] greets the agent over an
//! [`AgentChannel`](crate::host::agent_channel::AgentChannel); [`AgentSession::setup`],
//! [`AgentSession::exec`] and [`AgentSession::shutdown`] send it requests. Everything the agent sends is
//! checked, every wait has a deadline or can be interrupted, and no buffer grows with what a guest sends. A
//! protocol violation is a [`Refusal`](crate::model::Refusal) of kind `Agent`.
//!
//! Dropping an [`AgentSession`] ends it; the agent then kills the command that the session left running.

mod agent_link;
mod escape_keys;
mod exec;
mod exec_deadline;
mod notices;
mod outcome;
mod outlook;
mod output;
mod session;
mod stdin;
mod stream_pump;
mod tty;

pub use exec::{ExecIo, StdinSource};
pub use outcome::{CapturedOutput, CommandExit, CommandOutcome};
pub use outlook::{VmEnding, VmOutlook};
pub use output::OutputSink;
pub use session::AgentSession;
