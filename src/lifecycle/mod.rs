//! What each verb means for a VM.
//!
//! Every operation goes the same way: take the VM's lock, bring record and world together
//! ([`settle`]), check, write the intention down, act, write the outcome down. Whatever a crash
//! interrupts is therefore on record, and the next holder of the lock finishes it.
//!
//! Verbs do not call verbs: `run` composes the same functions as `create`, `start`, `exec` and `rm`.

mod boot;
mod caller;
mod census;
mod conversation;
mod copy;
mod course;
mod create;
mod crowd;
mod defaults;
mod doctor;
mod end;
mod exec;
mod extend;
mod images;
mod import;
mod logs;
mod lookout;
mod manager;
mod prune;
mod reap;
mod rebuild;
mod remove;
mod rename;
mod settle;
mod start;
mod status;
mod stop;
mod sweep;
mod template;
mod templates;
mod timings;
mod wait;

pub use crate::backend::Purpose;
pub use caller::{Caller, Remark};
pub use conversation::Conversation;
pub use copy::{CopyIn, CopyOut, Parcel, Store, Who, copy_in, copy_out};
pub use create::{Request, create};
pub use crowd::at_once;
pub use defaults::{EntryWords, entry, of_profile as command_defaults};
pub use doctor::{Check, Diagnosis, Verdict, diagnose};
pub use exec::{Command, Finished, Streams, exec, run_in};
pub use extend::extend;
pub use images::{build_image, remove_image};
pub use import::{ImportRequest, import_image};
pub use logs::{Follow, Log, read_log};
pub use lookout::Lookout;
pub use manager::Manager;
pub use prune::{Pruned, prune_images};
pub use reap::{Reaped, reap};
pub use rebuild::rebuild;
pub use remove::{Removed, remove, remove_if_there};
pub use rename::rename;
pub use start::{Started, Way, start};
pub use status::{status, status_all};
pub use stop::stop;
pub use templates::{list_templates, remove_template};
pub use timings::Timings;
pub use wait::{Goal, Reached, wait};
