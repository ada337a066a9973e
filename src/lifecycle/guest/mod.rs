//! Using the guest of a started VM through its agent.

mod conversation;
mod copy;
pub mod defaults;
mod denial_watch;
mod exec;
mod list_paths;
mod outlook;
mod parallel;

pub use conversation::AgentConversation;
pub use copy::{
    CopyIn, CopyOut, CopyPayload, CopyRoom, CopySize, CopyStore, CopyUser, DiskCopy, DiskCopyPlan,
    copy_in, copy_out,
};
pub use defaults::{CommandWords, command_defaults, program_to_run};
pub use denial_watch::DenialNotes;
pub use exec::{ExecCommand, ExecStreams, FinishedCommand, exec, run_in};
pub use list_paths::list_paths;
pub use parallel::in_parallel;
