//! One command: from its request to its exit status.

pub mod copy;
pub mod prepare;
mod running;
mod secrets;
pub mod spawn;
mod stdio;
mod terminal;
pub mod user;

pub use running::Job;
