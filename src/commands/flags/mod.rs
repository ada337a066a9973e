//! Flags that several verbs share, a file for each group.

pub mod copies;
pub mod env_and_secrets;
pub mod env_file;
pub mod exec_context;
pub mod guest_command;
mod job_labels;
pub mod keep;
pub mod machine;
pub mod network;
pub mod selection;
pub mod start;
pub mod stray_word;
pub mod tty;
pub mod typed_path;
pub mod vm;
