//! What each verb means for a VM.
//!
//! Every operation takes the same steps: lock the VM, settle it ([`recover::settle`]), check, record the
//! intention, act, record the outcome. A crash therefore leaves its operation on record, and the next command
//! that locks the VM finishes it.
//!
//! A verb that changes a VM has a file of its own here, or a directory if it needs several. Commands
//! in a guest are in `guest`, reading and waiting in `observe`, images and templates in `images`, and what
//! finishes interrupted operations in `recover`. Verbs do not call verbs: `run` composes the same functions
//! as `create`, `start`, `exec` and `rm`.

mod create;
mod doctor;
mod extend;
mod full_disk;
mod guest;
mod images;
mod liveness;
mod manager;
mod network;
mod observe;
mod pool;
mod recover;
mod removal;
mod remove;
mod rename;
mod run;
mod slot;
mod start;
mod stop;
mod timings;
mod unexpired;

pub use crate::backend::StreamPurpose;
pub use create::{CreateRequest, NewVm, PoolUse, create, kind_of};
pub use doctor::{HostDiagnosis, diagnose};
pub use extend::extend;
pub use guest::{
    AgentConversation, CommandWords, CopyIn, CopyOut, CopyPayload, CopyRoom, CopySize, CopyStore,
    CopyUser, DenialNotes, DiskCopy, DiskCopyPlan, ExecCommand, ExecStreams, FinishedCommand,
    command_defaults, copy_in, copy_out, exec, in_parallel, list_paths, program_to_run, run_in,
};
pub use images::{
    ImageWish, ImportRequest, PruneReport, PullOutcome, PullPolicy, PullRequest, build_image,
    import_image, list_templates, provide_image, prune_images, pull_image, remove_image,
    remove_template,
};
pub use manager::VmManager;
pub use network::NetworkRequest;
pub use observe::{
    DenialReport, DiskGroup, DiskItem, DiskKind, LogFollower, LogKind, NetworkLogLine,
    NetworkLogParser, VmInspection, VmWatcher, WaitGoal, WaitOutcome, disk_use, inspect,
    published_ports, read_log, status, status_all, status_everything, wait,
};
pub use pool::{FillLock, drain, fill, list as list_pool, waiting};
pub use recover::{RebuildOutcome, reap, rebuild};
pub use removal::{RemovalReport, RemovedThing};
pub use remove::{remove, remove_if_there};
pub use rename::rename;
pub use run::{FinishedRun, create_started, run};
pub use start::{StartCaller, StartOptions, StartRemark, StartedVm, start};
pub use stop::stop;
pub use timings::PhaseTimings;
