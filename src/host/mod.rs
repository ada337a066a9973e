//! The operating system's boundary: processes, clocks, files, signals.

pub mod channel;
pub mod signals;
