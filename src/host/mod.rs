//! The operating system's boundary: processes, clocks, files, signals.

pub mod cgroup;
pub mod channel;
pub mod clock;
pub mod confidential;
pub mod cpu;
pub mod directory;
pub mod durable;
pub mod gate;
pub mod job;
pub mod kvm;
pub mod lock;
pub mod log;
pub mod namespaces;
pub mod process;
pub mod program;
pub mod signals;
pub mod socket;
pub mod sparse;
pub mod terminal;
pub mod tool;
pub mod tsc;
pub mod wait;
pub mod watch;
