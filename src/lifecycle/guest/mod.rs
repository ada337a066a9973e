//! What is done with the guest of a started VM, through its agent.

mod conversation;
mod copy;
pub mod defaults;
mod exec;
mod parallel;

pub use conversation::AgentConversation;
pub use copy::{CopyIn, CopyOut, CopyPayload, CopyStore, CopyUser, copy_in, copy_out};
pub use defaults::{EntryWords, entry, of_profile as command_defaults};
pub use exec::{ExecCommand, ExecStreams, FinishedCommand, exec, run_in};
pub use parallel::at_once;
