//! Access to the operating system: processes, clocks, files, signals, terminals.

pub mod agent_channel;
pub mod atomic_file;
pub mod cgroup;
pub mod clock;
pub mod cpu;
pub mod directory;
pub mod file_watch;
pub mod input;
pub mod job_control;
pub mod kvm;
pub mod launcher;
pub mod lock;
pub mod log;
pub mod namespaces;
pub mod process;
pub mod seccomp;
pub mod secret_file;
pub mod signals;
pub mod socket;
pub mod sparse;
pub mod terminal;
pub mod thread;
pub mod tool;
pub mod tsc;
pub mod wait;
pub mod which;
