//! What holds for the whole VM: its setup, its TTL and its end.

mod setup;
pub mod shutdown;
mod state;
mod watchdog;

pub use state::{AgentContext, AgentMode};
