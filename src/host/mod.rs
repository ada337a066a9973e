//! The operating system's boundary: processes, clocks, files, signals.

pub mod channel;
pub mod clock;
pub mod directory;
pub mod durable;
pub mod gate;
pub mod lock;
pub mod process;
pub mod socket;
pub mod sparse;
pub mod tool;
