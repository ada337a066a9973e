//! One command: from its request to its exit status.

mod clone_into;
pub mod copy;
mod defaults;
mod failure;
mod input;
mod login;
mod mounted_copy;
mod prepare;
mod relay;
mod running;
mod secrets;
mod spawn;
mod stdio;
mod terminal;
mod user;

pub use failure::failure;
pub use relay::OutputRelay;
pub use running::RunningCommand;
