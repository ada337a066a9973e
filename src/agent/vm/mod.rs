//! What holds for the whole VM: its setup, its TTL and its end.

mod setup;
mod state;
mod watchdog;

pub use state::{World, WorldKind};
