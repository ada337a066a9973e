//! What holds for the whole VM: its setup, its TTL and its end.

mod context;
mod setup;
pub mod shutdown;

pub use context::{AgentContext, AgentMode};
